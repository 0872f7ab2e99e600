"""predict.py names what is wrong, passes over bad images, goes on where it stopped, shows its results."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.predicting import COLOURS, asking, cache_of, head, one_class_each, several_labels

from cache import FeatureCache
from pipeline.errors import ConfigError, DataError, RunError, StaleCacheError, UserError, WeightsError
from pipeline.evaluation.logits import score_run
from pipeline.files import read_json, write_json
from pipeline.metrics.thresholds import best_thresholds, sigmoid
from pipeline.prediction import scorer
from pipeline.prediction.growing import GrowingFile
from pipeline.prediction.stage import predict
from pipeline.runs.folder import load_head
from pipeline.training.stage import parts_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ and run/ of one class each, labelled/ and several/ of several labels."""
    made = tmp_path_factory.mktemp("stage")
    cache = cache_of(f"folder:{one_class_each(made / 'photos')}", made / "cache")
    head(cache, made / "run", head="linear", epochs=20)
    labelled = several_labels(made / "labelled")
    cache = cache_of(f"csv:{labelled / 'labels.csv'}", made / "maps", label_separator="|")
    head(cache, made / "several", head="gap", epochs=20)
    return made


def rows_of(out: Path) -> list[dict[str, str]]:
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_bad_images_are_named_and_have_a_row_with_the_reason(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = folder / "photos/test/ant"
    good = sorted(photos.iterdir())
    for name in ("b,1.jpg", "c.png"):
        (tmp_path / name).write_bytes(b"" if name == "c.png" else good[0].read_bytes()[:300])
    found = [good[0], tmp_path / "b,1.jpg", tmp_path / "c.png", good[1]]
    for suffix in ("csv", "jsonl"):
        out = predict(asking(*found, run=folder / "run", out=str(tmp_path / f"x.{suffix}")))
        said = capsys.readouterr()
        assert said.err.count("left out: ") == 2
        assert f"left out: {tmp_path / 'c.png'}: expected an image, found an empty file\n" in said.err
        assert "2 images: ant 2; 2 left out" in said.out
        assert out is not None
        rows = rows_of(out) if suffix == "csv" else list(map(json.loads, out.read_text().splitlines()))
        assert [row["path"] for row in rows] == list(map(str, found))
        assert [bool(row.get("error")) for row in rows] == [False, True, True, False]
        assert [row.get("class") or None for row in rows] == ["ant", None, None, "ant"]
    assert rows[1].keys() == {"path", "error"}


def test_images_none_of_which_can_be_decoded_are_a_mistake(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.png: expected images that can be decoded, found none"):
        predict(asking(tmp_path, run=folder / "run"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("stop_after", [1, 4])
def test_it_goes_on_where_it_stopped_and_writes_the_same_bytes(
    folder: Path, tmp_path: Path, suffix: str, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "PIECE_IMAGES", 4)
    photos, run = folder / "photos", folder / "run"
    whole = predict(asking(photos, run=run, batch=2, out=str(tmp_path / f"whole.{suffix}")))
    assert whole is not None
    config = asking(photos, run=run, batch=2, out=str(tmp_path / f"parts.{suffix}"))
    add, times = GrowingFile.add, 0

    def interrupted(self: GrowingFile, text: str, rows: int, bad: int = 0) -> None:
        nonlocal times
        times += rows > 0
        if times > stop_after:
            raise KeyboardInterrupt
        add(self, text, rows, bad)

    with monkeypatch.context() as patch:
        patch.setattr(GrowingFile, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(config)
    decoded = list[range]()
    piece = scorer._piece
    monkeypatch.setattr(scorer, "_piece", lambda rows, *rest: (decoded.append(rows), piece(rows, *rest))[1])
    out = predict(config)
    assert out is not None
    assert out.read_bytes() == whole.read_bytes()
    assert sum(map(len, decoded)) == 33 - stop_after * 4  # no image twice


def test_a_finished_file_is_up_to_date_and_other_images_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = folder / "photos/test", tmp_path / "scores.csv"
    predict(asking(photos, run=folder / "run", out=str(out)))
    before = out.read_bytes()
    predict(asking(photos, run=folder / "run", out=str(out)))
    assert f"{out}: up to date, 9 images" in capsys.readouterr().out
    for images, settings, what in [
        (photos / "ant", {}, "images"),
        (photos, {"top_k": 2}, "--top-k"),
        (photos, {"run": folder / "several"}, "run and thresholds"),
    ]:
        with pytest.raises(RunError, match=f"holds predictions with other {what}; give another --out"):
            predict(asking(images, **{"run": folder / "run", "out": str(out), **settings}))
    assert out.read_bytes() == before


def test_a_cache_s_rows_are_scored_as_evaluation_scores_them(folder: Path, tmp_path: Path) -> None:
    cache, run = str(folder / "cache"), folder / "run"
    out = predict(asking(run=run, cache=cache, out=str(tmp_path / "a.csv"), top_k=1))
    expected = score_run(folder / "run")
    assert out is not None
    assert [row["path"] for row in rows_of(out)] == list(expected.paths)
    assert [row["class_1"] for row in rows_of(out)] == expected.classes[expected.logits.argmax(1)].tolist()


def test_thresholds_are_chosen_on_validation_images_alone(folder: Path, tmp_path: Path) -> None:
    run = folder / "several"
    data = FeatureCache(folder / "maps/train.h5")
    loaded = load_head(run)
    _, val = parts_of(loaded.config, data)
    logits = loaded.logits(torch.from_numpy(data.take(val.rows, view=None).astype(np.float32))).numpy()
    chosen = best_thresholds(logits, val.labels)
    assert read_json(run / "thresholds.json")["thresholds"] == pytest.approx(chosen.tolist(), abs=1e-4)
    out = predict(asking(folder / "labelled/test05.png", run=run, out=str(tmp_path / "a.csv")))
    assert out is not None
    (row,) = rows_of(out)
    above = [name for name, limit in zip(COLOURS, chosen, strict=True) if float(row[f"p_{name}"]) >= limit]
    assert row["labels"] == "|".join(above)


def test_probabilities_of_several_labels_are_sigmoids(folder: Path, tmp_path: Path) -> None:
    out = predict(asking(folder / "labelled", run=folder / "several", out=str(tmp_path / "a.csv"), show=0))
    assert out is not None
    rows = {Path(row["path"]).name: row for row in rows_of(out)}
    expected = score_run(folder / "several")
    for path, logits in zip(expected.paths, expected.logits, strict=True):
        found = [float(rows[path][f"p_{name}"]) for name in expected.classes]
        assert found == pytest.approx(sigmoid(logits.astype(np.float64)).tolist(), rel=1e-5)


def test_without_validation_images_a_half_is_taken_and_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = head(folder / "maps", tmp_path / "run", head="gap", val_fraction=0.0)
    assert not (run / "thresholds.json").exists()
    out = predict(asking(folder / "labelled", run=run, out=str(tmp_path / "a.csv")))
    said = "3 of 3 classes had no validation images to choose a threshold by: 0.5 is taken for them; --thres"
    assert said in capsys.readouterr().out
    assert out is not None
    for row in rows_of(out):
        assert row["labels"] == "|".join(name for name in COLOURS if float(row[f"p_{name}"]) >= 0.5)


def test_a_trunk_with_other_weights_is_refused_by_name(folder: Path, tmp_path: Path, weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"trunk\.weights: .* \(--weights\)"):
        predict(asking(folder / "photos/test", run=folder / "run", weights=str(weights)))


def test_a_trunk_with_weights_of_a_file_is_found_again(folder: Path, tmp_path: Path, weights: Path) -> None:
    cache = cache_of(f"folder:{folder / 'photos'}", tmp_path / "cache", weights=str(weights))
    run = head(cache, tmp_path / "run", head="linear", epochs=1)
    predict(asking(folder / "photos/test", run=run, weights=str(weights)))
    with pytest.raises(WeightsError, match=r"\(--weights\)"):
        predict(asking(folder / "photos/test", run=run))


def test_a_head_of_features_made_elsewhere_asks_for_more_of_them(folder: Path, tmp_path: Path) -> None:
    run = head(folder / "cache", tmp_path / "run", head="linear", epochs=1)
    described = read_json(run / "config.json")
    described["cache_identity"]["imported"] = {"made_by": "somebody"}
    write_json(run / "config.json", described)
    with pytest.raises(ConfigError, match=r"the features were imported .* name their folder with --cache"):
        predict(asking(folder / "photos/test", run=run))


def test_a_trunk_of_one_s_own_is_found_where_it_has_moved_to(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\ndef net():\n    torch.manual_seed(0)\n    return torch.nn.Conv2d(3, 4, 9, stride=6)\n"
    )
    here = f"{tmp_path}/net.py:net"
    cache = cache_of(
        f"folder:{folder / 'photos'}",
        tmp_path / "cache",
        trunk=here,
        image_px=32,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    run = head(cache, tmp_path / "run", head="linear", epochs=1)
    out = predict(asking(folder / "photos/test", run=run, out=str(tmp_path / "a.csv")))
    (tmp_path / "net.py").rename(tmp_path / "moved.py")
    moved = f"{tmp_path}/moved.py:net"
    again = predict(asking(folder / "photos/test", run=run, trunk=moved, out=str(tmp_path / "b.csv")))
    assert out is not None
    assert again is not None
    assert out.read_bytes() == again.read_bytes()
    with pytest.raises(ConfigError, match=r"--trunk: .*net\.py"):
        predict(asking(folder / "photos/test", run=run))


def test_a_diverged_head_is_refused(folder: Path, tmp_path: Path) -> None:
    run = head(folder / "cache", tmp_path / "run", head="linear", epochs=1)
    write_json(run / "summary.json", {**read_json(run / "summary.json"), "diverged": True})
    with pytest.raises(RunError, match="the head diverged, so it has no score"):
        predict(asking(folder / "photos/test", run=run))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.3}, r"threshold: has no effect: .*run has one class per image; leave it out"),
        ({"cache": "c"}, "images: has no effect beside --cache; leave one of them out"),
        ({"out": "a.txt"}, "out: expected one of FILE.csv, FILE.jsonl, found 'a.txt'"),
    ],
)
def test_settings_without_effect_are_refused(folder: Path, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        predict(asking(folder / "photos/test", run=folder / "run", **settings))


def test_another_trunk_s_cache_is_refused(folder: Path, tmp_path: Path) -> None:
    other = cache_of(f"folder:{folder / 'photos'}", tmp_path / "cache", image_px=40)
    with pytest.raises(StaleCacheError, match=r"transform\.image_px: 32 → 40 \(--image-px\)"):
        predict(asking(run=folder / "run", cache=str(other)))


def test_the_screen_shows_the_first_images_and_counts_all(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(asking(folder / "photos/train", run=folder / "run", show=3, top_k=2))
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith(f"{folder}/photos/train/")]
    assert len(table) == 3
    for line in table:
        _, first, p, second, q = line.split()
        assert {first, second} <= COLOURS.keys()
        assert float(p) >= float(q) > 0
    assert "24 images: " in lines[-1]
    assert sum(int(lines[-1].split(f"{name} ")[1].split(",")[0].split(";")[0]) for name in COLOURS) == 24


def test_no_image_at_all_is_one_line(folder: Path, tmp_path: Path) -> None:
    for images in ((), (tmp_path,), (tmp_path / "none.jpg",), (f"{tmp_path}/*.jpg",)):
        with pytest.raises(UserError) as caught:
            predict(asking(*images, run=folder / "run"))
        assert "\n" not in str(caught.value)
