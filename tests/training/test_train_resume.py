"""Training again into the same folder: gone on with, up to date, or refused as another run."""

import hashlib
import itertools
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support.toy import config, write_cache
from support.trained import assert_same, lines

from cache import CacheHeader, FeatureCache, relabel
from pipeline.errors import RunError
from pipeline.runs.claim import held
from pipeline.runs.find_run import find_run
from pipeline.runs.folder import load_head
from pipeline.training import epochs, stage
from pipeline.training.stage import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"))


def train_images(run: Path) -> int:
    return json.loads((run / "config.json").read_text())["train_images"]


class Killed(BaseException):
    """Stands for a signal."""


@pytest.mark.parametrize("stop_at", [5, 12, 23, 34])
@pytest.mark.parametrize("every", [1, 3, 5])
def test_a_resumed_run_ends_as_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, stop_at: int
) -> None:
    """Killed in an epoch of four steps, before its validation, or after its line was logged, with the last
    checkpoint in this epoch or in another."""
    noisy = write_cache(tmp_path / "noisy", noise=6.0)
    settings = {"dropout": 0.3, "lr": (0.3, 0.05), "val_fraction": 0.3, "epochs": 7}
    whole = train(config(noisy, tmp_path / "whole", **settings))
    moments, saved = itertools.count(1), [(0, 0)]

    def dies(self: epochs.Checkpoint) -> None:
        """At a moment after a step, or after an epoch."""
        moment = next(moments)
        if moment % every == 0:
            self.trainer.save(self.path)
            saved.append(self.trainer.done)
        if moment == stop_at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(epochs.Checkpoint, "save_if_due", dies)
        with pytest.raises(Killed):
            train(config(noisy, tmp_path / "run", **settings))
    with pytest.raises(RunError, match="unfinished run; add --resume"):
        train(config(noisy, tmp_path / "run", **settings))
    run = train(config(noisy, tmp_path / "run", resume=True, memory_budget_mb=4, **settings))
    epoch, step = saved[-1]
    for member in ("lr0.3-wd0.0005-seed0", "lr0.05-wd0.0005-seed0"):
        assert lines(run / member) == lines(whole / member)
        assert_same(run / member, whole / member)
        summary = json.loads((run / member / "summary.json").read_text())
        trained_now, images = summary["images_per_second"] * summary["seconds"], train_images(run / member)
        before = epoch * images + min(16 * step, images)
        assert trained_now == pytest.approx(7 * images - before, rel=0.1)
    assert not (run / "checkpoint.safetensors").exists()


def test_a_checkpoint_is_written_within_an_epoch(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as the time has passed, whatever the length of an epoch; large ones less often."""
    written, now = [], [0.0]
    monkeypatch.setattr(epochs.time, "perf_counter", lambda: now[0])

    def save(self: stage.Trainer, path: Path) -> None:
        written.append((now[0], self.done))
        now[0] += 20  # that long it takes

    def step(self: epochs.Checkpoint) -> None:
        now[0] += 10  # and that long a step
        due(self)

    due = epochs.Checkpoint.save_if_due
    monkeypatch.setattr(stage.Trainer, "save", save)
    monkeypatch.setattr(epochs.Checkpoint, "save_if_due", step)
    train(config(cache, tmp_path / "run", batch=1, epochs=1))
    assert written[0] == (40, (0, 4))
    assert written[1] == (270, (0, 25))  # more than 200 s after the end of the first


@pytest.mark.parametrize(("dropout", "heads"), [(0.0, 0), (0.1, 2)])
def test_only_dropout_ties_a_checkpoint_to_a_kind_of_device(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, dropout: float, heads: int
) -> None:
    """Its draws are the generator's of a device; all else is numbers."""
    kept = set[str]()
    monkeypatch.setattr(epochs.Checkpoint, "save_if_due", lambda self: self.trainer.save(self.path))
    save = stage.Trainer.save

    def noted(self: stage.Trainer, path: Path) -> None:
        save(self, path)
        kept.update(load_file(path))

    monkeypatch.setattr(stage.Trainer, "save", noted)
    train(config(cache, tmp_path / "run", epochs=1, lr=(0.1, 0.2), dropout=dropout))
    assert kept >= {"head.weight0", "epoch.total_loss"}
    assert len([name for name in kept if name.startswith("random.")]) == heads


def test_a_finished_run_is_up_to_date_and_left_alone(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(config(cache, tmp_path / "run"))
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    train(config(cache, tmp_path / "run", memory_budget_mb=4, verify=False))
    assert "up to date" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_another_run_in_the_folder_is_refused_by_what_differs(tmp_path: Path, cache: Path) -> None:
    train(config(cache, tmp_path / "run"))
    with pytest.raises(RunError, match=r"--hidden 6, not 5; --epochs 4, not 5; give another --out"):
        train(config(cache, tmp_path / "run", epochs=5, hidden=(5,)))
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


def test_a_run_is_of_the_labels_that_its_cache_had(tmp_path: Path) -> None:
    """A cache that is relabelled keeps its key: one label of one image makes another run."""
    cache = write_cache(tmp_path / "cache")
    run, before = train(config(cache, tmp_path / "run")), FeatureCache(cache / "train.h5")
    labels = before.labels.copy()
    labels[7] = (labels[7] + 1) % len(before.classes)
    fields = (before.shape, before.dtype, labels, before.paths, before.classes, before.identity)
    relabel(cache / "train.h5", CacheHeader(*fields))
    assert FeatureCache(cache / "train.h5").key == before.key
    told = [hashlib.sha256(each.astype("<i8").tobytes()).hexdigest()[:12] for each in (before.labels, labels)]
    with pytest.raises(RunError, match=f"a --cache with the labels {told[0]}, not {told[1]}"):
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
    assert load_head(find_run(advised)).config.lr == (1e-6,)
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


@pytest.mark.parametrize("heads", ["[3]", "{}", '[{"folder": 3}]', "null"])
def test_a_leaderboard_without_heads_is_made_again(heads: str, tmp_path: Path, cache: Path) -> None:
    settings = {"lr": (0.1, 1e-6)}
    run = train(config(cache, tmp_path / "run", **settings))
    whole = (run / "leaderboard.json").read_text()
    (run / "leaderboard.json").write_text(f'{{"heads": {heads}}}')
    train(config(cache, run, **settings))
    found, made = (json.loads(text)["heads"] for text in ((run / "leaderboard.json").read_text(), whole))
    assert [head["folder"] for head in found] == [head["folder"] for head in made]
