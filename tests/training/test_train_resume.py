"""Training again into the same folder: gone on with, up to date, or refused as another run."""

import json
import shutil
from pathlib import Path

import pytest
from support.toy import config, write_cache
from support.trained import assert_same, lines

from pipeline.errors import RunError
from pipeline.evaluation.stage import find_run
from pipeline.runs.claim import held
from pipeline.runs.folder import load_run
from pipeline.training import epochs, stage
from pipeline.training.stage import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


def train_images(run: Path) -> int:
    return json.loads((run / "config.json").read_text())["train_images"]


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
    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0.0)
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
        summary = json.loads((run / member / "summary.json").read_text())
        trained_now = summary["images_per_second"] * summary["seconds"] / train_images(run / member)
        assert trained_now == pytest.approx(7 - stop_at, rel=0.2)  # not the epochs before
        best.append(summary["best_epoch"])
    assert min(best) <= stop_at or stop_at == 2  # so that a best epoch comes out of the checkpoint
    assert not (run / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(("trained", "counted"), [(1, 3), (4, 0)])
def test_a_resumed_run_s_rate_counts_the_epochs_that_it_trained(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, trained: int, counted: int
) -> None:
    """Of four epochs on 81 images, in the seconds that the summary says."""
    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0.0)
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


def test_another_run_in_the_folder_is_refused_by_what_differs(tmp_path: Path, cache: Path) -> None:
    train(config(cache, tmp_path / "run"))
    with pytest.raises(RunError, match=r"--lr 0.1, not 0.3; --epochs 4, not 5; give another --out"):
        train(config(cache, tmp_path / "run", epochs=5, lr=(0.3,)))
    other = write_cache(tmp_path / "other", images=60)
    with pytest.raises(RunError, match=r"made with a --cache with the key \w{12}, not \w{12}; give another"):
        train(config(other, tmp_path / "run"))


def test_a_run_on_other_labels_or_classes_is_refused_by_what_differs(tmp_path: Path, cache: Path) -> None:
    run = train(config(cache, tmp_path / "run"))
    with pytest.raises(RunError, match=r"run made with --classes unset, not ant bee; give another --out$"):
        train(config(cache, run, classes=("ant", "bee")))
    described = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**described, "labels_sha256": "ab" * 32}))
    with pytest.raises(RunError, match="made with a --cache with the labels abababababab, not "):
        train(config(cache, run))


def test_the_folder_of_another_stage_is_refused_by_its_name(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": 1, "stage": "pretrain", "epochs": 24}')
    with pytest.raises(RunError, match=r": expected the stage train, found 'pretrain'; give another folder"):
        train(config(cache, tmp_path))


@pytest.mark.parametrize("lost", ["head.safetensors", "summary.json"])
def test_a_run_that_lost_a_file_is_trained_again(tmp_path: Path, cache: Path, lost: str) -> None:
    whole, run = (train(config(cache, tmp_path / name)) for name in ("whole", "run"))
    (run / lost).unlink()
    train(config(cache, run))
    assert (run / lost).exists()
    assert_same(run, whole)


def test_a_sweep_that_lost_a_head_says_so_and_is_trained_again(tmp_path: Path, cache: Path) -> None:
    settings = {"lr": (0.1, 1e-6)}
    run = train(config(cache, tmp_path / "run", **settings))
    best = find_run(run)
    shutil.rmtree(best)
    with pytest.raises(
        RunError, match=rf"run: its best head, {best.name}, is gone; .*, --run {run}/lr1e-06-wd0.0005-seed0$"
    ) as caught:
        find_run(run)
    advised = Path(str(caught.value).rpartition("--run ")[2])
    assert load_run(find_run(advised)).config.lr == (1e-6,)
    train(config(cache, run, **settings))
    assert find_run(run) == best


def test_two_trainings_into_one_folder_do_not_mix(tmp_path: Path, cache: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with (
        held(run),
        pytest.raises(RunError, match=r"run: another process is training into it; wait for it, or"),
    ):
        train(config(cache, run))
    assert not (run / "metrics.jsonl").exists()
    train(config(cache, run))
