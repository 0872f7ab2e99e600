"""Test images that were trained on are counted by contents, refused, and scored if that is asked for."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.evaluating import CLASSES, head, settings, two_heads, write_cache, write_split

from cache import CacheHeader, CacheWriter, FeatureCache
from pipeline.errors import RunError
from pipeline.evaluation.logits import open_run
from pipeline.evaluation.stage import evaluate
from pipeline.runs.given import rows_given


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache and two heads on it: ten, and linear."""
    return two_heads(tmp_path_factory.mktemp("made"))


def with_copies(cache: Path, out: Path, rows: np.ndarray) -> Path:
    """OUT/test.h5, the first images of which are those of these rows of train.h5 under other names."""
    train, test = (FeatureCache(cache / f"{split}.h5") for split in ("train", "test"))
    digests, maps = test.image_digests.copy(), test.features.copy()
    digests[: len(rows)], maps[: len(rows)] = train.image_digests[rows], train.features[rows]
    header = CacheHeader(test.shape, test.dtype, test.labels, test.paths, test.classes, test.identity)
    with CacheWriter(out / "test.h5", header) as writer:
        for block in writer.missing:
            some = slice(block.start, block.stop)
            writer.write(block, maps[some].astype(np.float32), digests[some])
        writer.publish()
    return out


def given_to(run: Path, train: FeatureCache) -> np.ndarray:
    subject = open_run(run, device="cpu")
    return rows_given(subject.loaded.config, subject.labels_sha256, train)


def test_images_that_were_trained_or_validated_on_are_counted_and_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tenth of them was held out for validation; all 30 count."""
    other = with_copies(made / "cache", tmp_path, np.arange(0, 240, 8))
    first = FeatureCache(other / "test.h5").paths[0]
    counted = (
        f"30 of 150 test images are among those that {made}/ten was trained or validated on, {first} is "
    )
    with pytest.raises(RunError, match=rf"^{other}/test\.h5: {counted}.*; score other images, or add --a"):
        evaluate(settings(made / "ten", cache=str(other)))
    assert not list((made / "ten").glob("eval-*"))
    capsys.readouterr()
    path = evaluate(
        settings(
            made / "ten",
            made / "linear",
            cache=str(other),
            out=str(tmp_path / "c.json"),
            allow_trained_on=True,
        )
    )
    assert json.loads(path.read_text())["trained_on"] == 30
    assert [run["trained_on"] for run in json.loads((tmp_path / "c.json").read_text())["runs"]] == [30, 30]
    assert capsys.readouterr().out.startswith(counted)


def test_only_what_the_head_was_given_counts(tmp_path: Path) -> None:
    """Of its classes, and of --per-class the images that were drawn."""
    cache = write_cache(tmp_path / "cache")
    train = FeatureCache(cache / "train.h5")
    few = head(cache, tmp_path / "few", head="linear", per_class=5, epochs=1)
    two = head(cache, tmp_path / "two", head="linear", classes=CLASSES[:2], epochs=1)
    given = given_to(few, train)
    assert (len(given), np.bincount(train.labels[given]).tolist()) == (30, [5] * 6)
    assert np.array_equal(given_to(two, train), np.flatnonzero(train.labels < 2))
    others = np.setdiff1d(np.arange(240), given)[:9]
    cases = ((few, given[:9], 9), (few, others, 0), (two, np.flatnonzero(train.labels > 1)[:9], 0))
    for number, (run, rows, count) in enumerate(cases):
        other = with_copies(cache, tmp_path / str(number), rows)
        found = evaluate(settings(run, cache=str(other), allow_trained_on=True))
        assert json.loads(found.read_text())["trained_on"] == count


def test_the_split_for_training_is_not_scored_as_a_test_split(made: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    shutil.copy(made / "cache/train.h5", tmp_path / "copy/test.h5")
    with pytest.raises(
        RunError, match=r"copy/test\.h5: expected a test split, found the split for training; "
    ):
        evaluate(settings(made / "ten", cache=str(tmp_path / "copy")))
    write_split(tmp_path / "other", "train", 30, image="other").joinpath("train.h5").rename(
        tmp_path / "other/test.h5"
    )
    with pytest.raises(RunError, match="found the split for training"):
        evaluate(settings(made / "ten", cache=str(tmp_path / "other")))
    path = evaluate(settings(made / "ten", cache=str(tmp_path / "copy"), allow_trained_on=True))
    assert json.loads(path.read_text())["trained_on"] == 240
    assert not (made / "ten/eval").exists()


def test_a_cache_that_was_relabelled_counts_whole(tmp_path: Path) -> None:
    """For nobody knows any more which of its images --per-class drew."""
    cache = write_cache(tmp_path / "cache")
    run = head(cache, tmp_path / "run", head="linear", per_class=5, epochs=1)
    described = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(described | {"labels_sha256": "0" * 64}))
    assert len(given_to(run, FeatureCache(cache / "train.h5"))) == 240
