"""Images as they are found in the world, through stage one: in the cache in order, or left out by name."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cache import FeatureCache
from pipeline.config import ExtractConfig
from pipeline.datasets.base import open_dataset
from pipeline.errors import DataError
from pipeline.extraction.stage import extract
from pipeline.trunks.alexnet_cifar import load

RGB = np.random.default_rng(0).integers(0, 256, (40, 32, 3), np.uint8)
pytestmark = pytest.mark.fault("wild images through stage one")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    image.save(stream := BytesIO(), kind, **options)
    return stream.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(RGB), exif=exif)


PHOTO = Image.fromarray(RGB)
GOOD: dict[str, bytes] = {
    "grey": encoded(PHOTO.convert("L")),
    "palette": encoded(PHOTO.convert("P")),
    "alpha": encoded(PHOTO.convert("RGBA")),
    "16 bit": encoded(Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)),
    "cmyk": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "turned": turned(),
    "1×1": encoded(PHOTO.resize((1, 1))),
    "20,000 px wide": encoded(PHOTO.resize((20_000, 2))),
}
BAD: dict[str, tuple[bytes, str]] = {
    "truncated": (encoded(PHOTO)[:-900], "can't be decoded"),
    "zero bytes": (b"", "found an empty file"),
    "not an image": (b"GIF-t" * 99, "found something else"),
    "bomb": (encoded(Image.new("1", (15_000, 15_000))), "decompression bomb"),
}


@pytest.fixture
def wild(tmp_path: Path) -> Path:
    """Two classes, of which one has an image of each kind, among good ones of other brightness."""
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / "wild" / split / name).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(
                    tmp_path / "wild" / split / name / f"z{i}.png"
                )
    images = GOOD | {name: data for name, (data, _) in BAD.items()}
    for name, data in images.items():
        (tmp_path / "wild/train/a" / f"{name}.png").write_bytes(data)
    return tmp_path / "wild"


def settings(wild: Path, weights: Path, cache: Path, skip: bool) -> ExtractConfig:
    return ExtractConfig(
        dataset=f"folder:{wild}",
        weights=str(weights),
        cache=str(cache),
        dtype="float32",
        decoders=1,
        on_bad_image="skip" if skip else "stop",
    )


def test_each_row_is_the_map_of_its_image_and_what_can_t_be_shown_is_recorded(
    wild: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(settings(wild, weights, tmp_path / "c", skip=True))
    cache = FeatureCache(tmp_path / "c/train.h5")
    left_out = {note["path"]: note["reason"] for note in cache.notes["skipped"]}
    assert left_out.keys() == {f"train/a/{name}.png" for name in BAD}
    said = capsys.readouterr().out
    for name, (_, reason) in BAD.items():
        assert reason in left_out[f"train/a/{name}.png"]
        assert f"left out: train/a/{name}.png: " in said
    assert cache.paths == sorted(cache.paths)
    assert {f"train/a/{name}.png" for name in GOOD} < set(cache.paths)
    assert [path.split("/")[1] for path in cache.paths] == [cache.classes[label] for label in cache.labels]
    split, trunk = open_dataset(f"folder:{wild}")["train"], load(weights)
    for row, path in enumerate(cache.paths):
        pixels = trunk.transform.apply(split.images.read(split.paths.index(path)).pixels)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (trunk.transform.mean, trunk.transform.std))
        normalised = (torch.from_numpy(pixels).float() / 255 - mean) / std
        with torch.inference_mode():
            expected = trunk.module(normalised[None])[0]
        found = torch.from_numpy(cache.features[row, 0].copy())
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_stops_the_run_in_one_line(name: str, wild: Path, weights: Path, tmp_path: Path) -> None:
    for other in BAD.keys() - {name}:
        (wild / "train/a" / f"{other}.png").unlink()
    with pytest.raises(DataError) as caught:
        extract(settings(wild, weights, tmp_path / "c", skip=False))
    said = str(caught.value)
    assert said.startswith(f"{wild}/train/a/{name}.png: ")
    assert BAD[name][1] in said
    assert said.endswith("--on-bad-image skip")
    assert "\n" not in said
    assert not (tmp_path / "c/train.h5").exists()
