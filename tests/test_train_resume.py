"""Training again into the same folder: gone on with, up to date, or refused as another run."""

import json
import re
from pathlib import Path

import pytest
from toy import config, write_cache
from trained import assert_same, lines

from pipeline import train as stage
from pipeline.errors import RunError
from pipeline.runs import load_head
from pipeline.train import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


class Killed(BaseException):
    """Stands for a signal."""


@pytest.mark.parametrize("doing", ["epoch", "save"])
@pytest.mark.parametrize("stop_at", [2, 5])
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doing: str, stop_at: int
) -> None:
    """Killed in an epoch, or after its line was logged and before its checkpoint was there."""
    noisy = write_cache(tmp_path / "noisy", noise=6.0)
    settings = {"dropout": 0.3, "lr": (0.3, 0.05), "val_fraction": 0.3, "epochs": 7}
    whole = train(config(noisy, tmp_path / "whole", **settings))
    monkeypatch.setattr(stage, "CHECKPOINT_SECONDS", 0.0)
    done = []

    def dies(self: stage.Trainer, *args: object) -> object:
        done.append(args)
        if len(done) > stop_at:
            raise Killed
        return works(self, *args)

    with monkeypatch.context() as patch:
        works = getattr(stage.Trainer, doing)
        patch.setattr(stage.Trainer, doing, dies)
        with pytest.raises(Killed):
            train(config(noisy, tmp_path / "run", **settings))
    with pytest.raises(RunError, match="unfinished run; add --resume"):
        train(config(noisy, tmp_path / "run", **settings))
    run = train(config(noisy, tmp_path / "run", resume=True, **settings))
    best = []
    for member in ("lr0.3-wd0.0005-seed0", "lr0.05-wd0.0005-seed0"):
        assert lines(run / member) == lines(whole / member)
        assert_same(run / member, whole / member)
        best.append(json.loads((run / member / "summary.json").read_text())["best_epoch"])
    assert min(best) < stop_at or stop_at == 2  # so that a best epoch comes out of the checkpoint
    assert not (run / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(("trained", "counted"), [(1, 3), (4, 0)])
def test_a_resumed_run_s_rate_counts_the_epochs_that_it_trained(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, trained: int, counted: int
) -> None:
    """Of four epochs on 81 images, in the seconds that the summary says."""
    monkeypatch.setattr(stage, "CHECKPOINT_SECONDS", 0.0)
    save = stage.Trainer.save

    def dies(self: stage.Trainer, path: Path, epoch: int) -> None:
        save(self, path, epoch)
        if epoch == trained:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(stage.Trainer, "save", dies)
        with pytest.raises(Killed):
            train(config(cache, tmp_path / "run", epochs=4))
    run = train(config(cache, tmp_path / "run", epochs=4, resume=True))
    summary = json.loads((run / "summary.json").read_text())
    assert summary["images_per_second"] == pytest.approx(81 * counted / summary["seconds"], rel=0.1)


def test_a_finished_run_is_up_to_date_and_left_alone(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(config(cache, tmp_path / "run"))
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    train(config(cache, tmp_path / "run", memory_budget_mb=1, verify=False))
    assert "up to date" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        (["hidden", "labels_sha256"], r"lacks hidden, labels_sha256; put it back as train_head\.py wrote it"),
        (["stage", "lr"], "lacks the stage that made it; put it back as it was, or give another folder"),
        (
            ["seed", "lr", "batch", "epochs", "crops", "cache", "map_shape"],
            "lacks crops, lr, .* and 2 more; ",
        ),
    ],
)
def test_a_config_json_that_lacks_what_was_written_is_named_with_what_is_missing(
    tmp_path: Path, cache: Path, removed: list[str], said: str
) -> None:
    """Whoever reads it: training again, and loading the head."""
    run = train(config(cache, tmp_path / "run"))
    described = json.loads((run / "config.json").read_text())
    left = {name: value for name, value in described.items() if name not in removed}
    (run / "config.json").write_text(json.dumps(left))
    for read in (lambda: train(config(cache, run)), lambda: load_head(run)):
        with pytest.raises(RunError, match=rf"^{re.escape(str(run))}/config\.json: {said}") as caught:
            read()
        assert len(str(caught.value)) < len(str(run)) + 200
        assert "--" not in str(caught.value).replace("with another --out", "")
    assert json.loads((run / "config.json").read_text()) == left


def test_a_folder_of_another_stage_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "config.json").write_text('{"stage": "pretrain"}')
    said = r"config\.json: expected the stage train, found 'pretrain'; give another folder"
    with pytest.raises(RunError, match=said):
        train(config(cache, tmp_path))


def test_another_run_in_the_folder_is_refused_by_what_differs(tmp_path: Path, cache: Path) -> None:
    train(config(cache, tmp_path / "run"))
    with pytest.raises(RunError, match=r"--lr 0.1, not 0.3; --epochs 4, not 5; give another --out"):
        train(config(cache, tmp_path / "run", epochs=5, lr=(0.3,)))
    other = write_cache(tmp_path / "other", images=60)
    with pytest.raises(
        RunError, match=r"with another --cache than \S+other is now: other cache_key, labels_s"
    ):
        train(config(other, tmp_path / "run"))
