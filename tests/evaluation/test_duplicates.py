"""`evaluate.py --duplicates`: planted copies are found, as a loop over all pairs finds them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.evaluating import CLASSES, IDENTITY, head, settings
from support.toy import file_digests

from cache import CacheHeader, CacheWriter, FeatureCache
from pipeline.errors import ConfigError, StaleCacheError
from pipeline.evaluation import duplicates
from pipeline.evaluation.duplicates import find_duplicates
from pipeline.evaluation.stage import evaluate


def write(folder: Path, split: str, maps: np.ndarray, files: list[str], **changed: Any) -> Path:
    """A split whose image files have these contents."""
    identity = {**IDENTITY, "split": split, "image_sizes": split, **changed}
    labels = np.arange(len(maps)) % len(CLASSES)
    paths = [f"{split}/{i}.png" for i in range(len(maps))]
    header = CacheHeader((len(maps), 1, *maps.shape[1:]), "float32", labels, paths, CLASSES, identity)
    with CacheWriter(folder / f"{split}.h5", header) as writer:
        for rows in writer.missing:
            some = maps[rows.start : rows.stop, None].astype(np.float32)
            writer.write(rows, some, file_digests(files[rows.start : rows.stop]))
        writer.publish()
    return folder / f"{split}.h5"


def planted(folder: Path, **changed: Any) -> dict[str, FeatureCache]:
    """300 training and 150 test images of which some are copies, exact or nearly."""
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(count, 16, 3, 3)) for count in (300, 150))
    files = {split: [f"{split} {i}" for i in range(300)] for split in ("train", "test")}
    near = 0.02 * rng.normal(size=(4, 16, 3, 3))
    train[200], files["train"][200] = train[3], files["train"][3]
    train[201], files["train"][201] = train[3], files["train"][3]
    train[40] = train[250] + near[0]
    test[7], files["test"][7] = train[9], files["train"][9]
    files["test"][11] = files["train"][12]  # of other maps: cropped at random, say
    test[8] = train[299] + near[1]
    test[140] = test[2] + near[2]
    paths = {
        "train": write(folder, "train", train, files["train"]),
        "test": write(folder, "test", test, files["test"][:150], **changed),
    }
    return {split: FeatureCache(path) for split, path in paths.items()}


PLANTED = {
    ("train", "train"): {(200, 3, True), (201, 3, True), (250, 40, False)},
    ("test", "test"): {(140, 2, False)},
    ("test", "train"): {(7, 9, True), (11, 12, True), (8, 299, False)},
}


def test_planted_copies_are_found_within_and_across_splits_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks of any size."""
    caches = planted(tmp_path)
    for rows, columns in ((2048, 8192), (64, 50), (7, 300)):
        monkeypatch.setattr(duplicates, "ROWS", rows)
        monkeypatch.setattr(duplicates, "COLUMNS", columns)
        found = find_duplicates(caches, 0.99, tmp_path / "out.csv")
        for splits, wanted in PLANTED.items():
            pairs = found.pairs[splits]
            assert set(zip(pairs.rows, pairs.others, pairs.exact, strict=True)) == wanted


@pytest.mark.parametrize("cosine", [0.5, 0.7])
def test_the_nearest_is_that_of_a_loop_over_all_pairs(tmp_path: Path, cosine: float) -> None:
    caches = planted(tmp_path)
    found = find_duplicates(caches, cosine, tmp_path / "out.csv")
    pooled = {
        split: cache.take(range(len(cache))).mean((2, 3), dtype=float) for split, cache in caches.items()
    }
    mean, spread = pooled["train"].mean(0), pooled["train"].std(0)
    unit = {split: (maps - mean) / spread for split, maps in pooled.items()}
    unit = {split: maps / np.linalg.norm(maps, axis=1)[:, None] for split, maps in unit.items()}
    for (split, other), pairs in found.pairs.items():
        listed = dict(zip(pairs.rows.tolist(), zip(pairs.others, pairs.cosines, strict=True), strict=True))
        exact = set(pairs.rows[pairs.exact].tolist())
        for row in range(len(unit[split])):
            if row in exact:
                del listed[row]
                continue
            before = unit[other][:row] if split == other else unit[other]
            all_of_it = before @ unit[split][row]
            if len(before) and all_of_it.max() > cosine + 1e-5:
                place, value = listed.pop(row)
                assert value == pytest.approx(all_of_it.max(), abs=1e-5)
                assert all_of_it[place] == pytest.approx(all_of_it.max(), abs=1e-5)
        assert not listed


def test_a_picture_that_is_there_often_takes_a_line_each(tmp_path: Path) -> None:
    """And one whose maps are all equal, or nothing but zero, is no picture's neighbour."""
    maps = np.zeros((100, 16, 3, 3))
    maps[:50] = np.random.default_rng(0).normal(size=(1, 16, 3, 3))
    cache = FeatureCache(write(tmp_path, "train", maps, [str(i) for i in range(100)]))
    pairs = find_duplicates({"train": cache}, 0.99, tmp_path / "out.csv").pairs["train", "train"]
    assert len(pairs.rows) == 98
    assert (pairs.others < pairs.rows).all()


def test_the_table_lists_leaks_first_and_names_both_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    caches = planted(tmp_path)
    run = head(tmp_path, tmp_path / "run")
    capsys.readouterr()
    file = evaluate(settings(run, duplicates=True))
    said = capsys.readouterr().out
    assert "train: 2 the same and 1 nearly, of 300; test: 0 the same and 1 nearly, of 150; " in said
    assert "test images that are in train too: 2 the same and 1 nearly, of 150" in said
    with file.open(encoding="utf-8-sig", newline="") as text:
        table = list(csv.DictReader(text))
    assert [line["image"] for line in table[:3]] == ["test/7.png", "test/11.png", "test/8.png"]
    assert [(line["kind"], line["other_image"]) for line in table[:3]] == [
        ("exact", "train/9.png"),
        ("exact", "train/12.png"),
        ("near", "train/299.png"),
    ]
    assert len(table) == 7
    for line in table:
        for side in ("", "other_"):
            cache = caches[line[f"{side}split"]]
            row = list(cache.paths).index(line[f"{side}image"])
            assert line[f"{side}label"] == CLASSES[cache.labels[row]]
        assert (line["same_label"] == "yes") == (line["label"] == line["other_label"])
    with pytest.raises(ConfigError, match="has no effect on --duplicates alone"):
        evaluate(settings(run, duplicates=True, issues_split="test"))


def test_splits_of_other_trunks_are_not_compared(tmp_path: Path) -> None:
    planted(tmp_path, trunk={"name": "other"})
    run = head(tmp_path, tmp_path / "run")
    with pytest.raises(StaleCacheError, match=r"test.h5: made otherwise than the maps that .*train.h5"):
        evaluate(settings(run, duplicates=True))
