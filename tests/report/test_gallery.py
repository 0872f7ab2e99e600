"""The images of a report: the right ones, as they are on the disk, beside the nearest ones; or why not."""

import base64
import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from support import toy
from support.evaluating import head, predictions, settings, two_heads
from support.reporting import page_of, section, text_of

from cache import CacheHeader, CacheWriter, FeatureCache
from pipeline.config import ExtractConfig, TrainConfig
from pipeline.evaluation.stage import evaluate
from pipeline.extraction.stage import extract
from pipeline.files import read_json, write_json
from pipeline.report import pictures
from pipeline.report.examples import examples
from pipeline.report.neighbours import nearest
from pipeline.training.stage import train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache without images behind it, and two heads, one of them evaluated."""
    folder = two_heads(tmp_path_factory.mktemp("made"))
    evaluate(settings(folder / "ten"))
    return folder


@pytest.fixture
def photo_run(photos: Path, weights: Path, tmp_path: Path) -> Path:
    """An evaluated head on photos of two classes, which it can't tell apart."""
    flags: dict[str, Any] = {"image_px": 32, "device": "cpu", "decoders": 1}
    where = {"dataset": f"folder:{photos}", "weights": str(weights), "cache": str(tmp_path / "cache")}
    cache = extract(ExtractConfig(**where, **flags))
    run = head(cache, tmp_path / "run", head="linear")
    evaluate(settings(run))
    return run


def cards(page: str) -> list[str]:
    return section(page, "images").split('<li class="card">')[1:]


def shown_paths(page: str) -> list[str]:
    return [html.unescape(text_of(re.findall(r'<p class="path">(.*?)</p>', card)[0])) for card in cards(page)]


def test_the_most_confident_mistakes_and_the_least_confident_hits_are_chosen(made: Path) -> None:
    kept = predictions(made / "ten")
    powers = np.exp(kept.logits.astype(float))
    sure = (powers / powers.sum(1, keepdims=True)).max(1)
    wrong = sorted((i for i in range(150) if not kept.correct[i]), key=lambda i: -sure[i])
    right = sorted((i for i in range(150) if kept.correct[i]), key=lambda i: sure[i])
    found = examples(kept, np.array(0.5), 10)
    assert [one.row for one in found.mistakes] == wrong[:10]
    assert [one.row for one in found.hits] == right[:5]
    page = page_of(made / "ten", images=10)
    assert shown_paths(page) == [kept.paths[i] for i in (*wrong[:10], *right[:5])]
    for card, i in zip(cards(page), wrong[:10], strict=False):
        label, taken = (str(kept.classes[k]) for k in (kept.labels[i], kept.logits[i].argmax()))
        assert f"taken for {taken}, {100 * sure[i]:.1f} % sure" in text_of(card)
        assert f"label: {label}" in text_of(card)


def test_of_images_with_several_labels_the_labels_farthest_from_the_truth_are_shown(tmp_path: Path) -> None:
    cache = toy.write_multilabel_cache(tmp_path / "cache")
    toy.write_multilabel_cache(tmp_path / "cache", split="test")
    run = train(toy.config(cache, tmp_path / "gap", head="gap", hidden=(512,), crops="full"))
    evaluate(settings(run))
    kept, thresholds = predictions(run), json.loads((run / "thresholds.json").read_text())["thresholds"]
    off: dict[int, float] = {}
    near: dict[int, float] = {}
    for i, k in np.ndindex(kept.labels.shape):
        share = 1 / (1 + np.exp(-float(kept.logits[i, k])))
        said, present = share >= thresholds[k], kept.labels[i, k] == 1
        if kept.labels[i, k] >= 0 and said != present:
            off[i] = max(off.get(i, 0.0), abs(share - present))
        elif said and present:
            near[i] = min(near.get(i, 1.0), share)
    found = examples(kept, np.array(thresholds), 8)
    assert [one.row for one in found.mistakes] == sorted(off, key=lambda i: (-off[i], i))[:8]
    assert [one.row for one in found.hits] == sorted(near, key=lambda i: (near[i], i))[:4]
    assert re.search("(missed|wrongly) (ant|bee|cow), ", text_of(section(page_of(run), "images")))


def test_neighbours_are_scikit_learns(made: Path) -> None:
    training, test = (FeatureCache(made / f"cache/{split}.h5") for split in ("train", "test"))
    means = [cache.take(np.arange(len(cache))).astype(float).mean((2, 3)) for cache in (training, test)]
    rows = [3, 141, 77]
    distances, places = (
        NearestNeighbors(n_neighbors=3, metric="cosine").fit(means[0]).kneighbors(means[1][rows])
    )
    found, among = nearest(training, test, rows)
    assert among == len(training)
    for own, cosines, wanted in zip(found, 1 - distances, places, strict=True):
        assert [one.path for one in own] == [training.paths[row] for row in wanted]
        assert [one.cosine for one in own] == pytest.approx(cosines.tolist(), abs=1e-4)
        assert [one.labels for one in own] == [(training.classes[training.labels[row]],) for row in wanted]
        assert not any(one.same_file for one in own)
    own, _ = nearest(test, test, [5])
    assert own[0][0].path == test.paths[5]
    assert own[0][0].same_file


def test_the_images_are_those_on_the_disk(photo_run: Path, photos: Path) -> None:
    page = page_of(photo_run, images=6)
    assert len(cards(page)) >= 6
    for card, path in zip(cards(page), shown_paths(page), strict=True):
        beside = re.findall(r'alt="training image (.*?)"', card)
        names = [path, *map(html.unescape, beside)]
        uris = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', card)
        assert len(uris) == len(names)
        for name, uri in zip(names, uris, strict=True):
            with Image.open(io.BytesIO(base64.b64decode(uri))) as there, Image.open(photos / name) as here:
                off = np.asarray(there, float) - np.asarray(here.convert("RGB"), float)
            assert np.abs(off).mean() < 10  # another image of noise is off by 85


def test_an_image_that_is_gone_or_another_by_now_is_said(photo_run: Path, photos: Path) -> None:
    first, second, *_ = shown_paths(page_of(photo_run, images=6))
    (photos / first).unlink()
    shutil.copy(photos / "train/ü/00.png", photos / second)
    page = page_of(photo_run, images=6)
    told = [text_of(card) for card in cards(page)]
    assert f"{first}: no such image in folder:" in told[0]
    assert f"{second}: another image of folder:" in told[1]
    assert len(re.findall('src="data:', page)) > 4


def test_a_dataset_or_a_cache_that_is_gone_is_no_end(photo_run: Path, photos: Path) -> None:
    shutil.rmtree(photos)
    page = page_of(photo_run)
    assert "The images can't be shown: " in section(page, "images")
    assert "data:image/jpeg" not in page
    shutil.rmtree(photo_run.parent / "cache")
    assert "its cache isn't found" in section(page_of(photo_run), "images")
    assert 'id="images"' not in page_of(photo_run, images=0)


def test_images_that_nobody_vouches_for_are_not_shown(photo_run: Path) -> None:
    """A cache without digests could claim to be about any folder."""
    config, cache = read_json(photo_run / "config.json"), photo_run.parent / "cache"
    for path in sorted(cache.glob("*.h5")):
        old = FeatureCache(path)
        header = CacheHeader(
            old.shape, old.dtype, old.labels, old.paths, old.classes, dict(old.identity), dict(old.notes)
        )
        maps = old.decode(old.take(np.arange(len(old)), None))
        path.unlink()
        with CacheWriter(path, header) as writer:
            writer.write(range(len(maps)), maps, np.zeros((len(maps), 16), np.uint8))
            writer.publish()
        if path.stem == "train":
            made = FeatureCache(path)
            facts = {"cache_key": made.key, "cache_images": made.images_digest}
            write_json(photo_run / "config.json", {**config, **facts})
    page = page_of(photo_run)
    assert "doesn't say what was in the images, so others might be shown" in section(page, "images")
    assert "data:image/jpeg" not in page


@pytest.mark.parametrize("dataset", ["folder:s3://bucket/photos", "hf:somebody/photos", "cifar10"])
def test_nothing_is_fetched(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pictures.DataError, match="isn't on this disk, and a report fetches nothing"):
        pictures.refuse_fetching(dataset)


def test_the_bytes_of_images_are_bounded(photo_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = page_of(photo_run)
    monkeypatch.setattr(pictures, "BUDGET", 12_000)
    page = page_of(photo_run)
    assert sum(map(len, re.findall('src="(data:[^"]*)"', page))) <= 12_000
    assert "left out: the page has enough images" in page
    assert len(cards(page)) == len(cards(whole))


@pytest.mark.usefixtures("few_scenes")
def test_regions_are_drawn_where_the_json_has_them_with_what_they_added(
    scenes_cache: Path, tmp_path: Path
) -> None:
    small: dict[str, Any] = {"hidden": (16,), "epochs": 1, "batch": 20, "device": "cpu", "steps": 3}
    attending = {"head": "recurrent-attention", "crops": "full", "region_cells": 3}
    run = train(TrainConfig(cache=str(scenes_cache), out=str(tmp_path / "run"), **attending, **small))
    evaluate(settings(run, show_regions=2))
    page = section(page_of(run), "attention")
    facts = {image["path"]: image for image in json.loads((run / "eval/regions.json").read_text())["images"]}
    kept = predictions(run)
    drawn = page.split('<li class="card">')[1:]
    assert len(drawn) == 12
    for card in drawn:
        path = re.findall(r'<p class="path"><bdi>(.*?)</bdi>', card)[0]
        image = facts[path]
        found = re.findall(
            r'<rect x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)" class="series', card
        )
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (map(float, box) for box in found)]
        assert np.allclose(boxes, image["regions"][0])
        row = list(kept.paths).index(path)
        labels = {str(kept.classes[k]) for k in np.flatnonzero(kept.labels[row] == 1)}
        said = {label for own in image["adds"] for label in own}
        words = text_of(card)
        assert words.count("✓ right") == len(said & labels)
        assert words.count("✕ wrong") == len(said - labels)
        assert words.count("✕ missed") == len(labels - said)


def test_damaged_regions_are_named(made: Path, photo_run: Path) -> None:
    (photo_run / "eval/regions.json").write_text('{"shown_crop": 0, "images": [{"path": "<b>", "size": 3}]}')
    told = text_of(section(page_of(photo_run), "attention"))
    assert re.search(r"regions\.json: can't be read \(.*evaluate\.py --show-regions makes it again", told)
