"""Where a head of recurrent attention looks on test images, and whether there is something there.

    run folder + CACHE/test.h5 + the dataset's images → regions in pixels of each image

Shapes: B images, N crops, S regions, K classes.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cache import FeatureCache
from pipeline.config import ExtractConfig
from pipeline.datasets.base import Boxes, ImageSplit, open_dataset
from pipeline.device import pick_device
from pipeline.errors import RunError, StaleCacheError
from pipeline.evaluation.predict import maps_of, open_test, rows_of
from pipeline.evaluation.regions.geometry import BoxArray, region_boxes, to_image
from pipeline.evaluation.regions.hits import HitRate, Regions, asked_of, hit_rate
from pipeline.heads.recurrent_attention import RecurrentAttention
from pipeline.runs.folder import LoadedHead, load_head

CENTRE = 4
"""Which of five or ten crops stands for them in pictures and rates: its regions are an image's S regions."""


class Looked(NamedTuple):
    """What one head saw of the test images."""

    paths: list[str]
    classes: tuple[str, ...]
    transform: dict[str, int | str]
    """The trunk's: image_px, resize, ..."""
    boxes: BoxArray
    """(B, N, S, 4) in pixels of the trunk's input."""
    step_logits: NDArray[np.float32]
    """(B, N, S, K)"""
    present: NDArray[np.bool_]
    """(B, K)"""

    @property
    def logits(self) -> NDArray[np.float32]:
        """(B, K)"""
        return self.step_logits.max(2).mean(1)

    @property
    def crop(self) -> int:
        """The crop that is shown."""
        return CENTRE if self.boxes.shape[1] > CENTRE else 0

    def on_image(self, row: int, size: tuple[int, int]) -> BoxArray:
        """(N, S, 4) in pixels of the decoded image of this size (height, width)."""
        return to_image(self.boxes[row], str(self.transform["resize"]), int(self.transform["image_px"]), size)


def look(folder: Path, *, cache: str = "", batch: int = 500, device: str = "auto") -> Looked:
    """Score the test images of a run, and keep what its head looked at.

    Raises: RunError when the head looks at no regions; else as `predict`.
    """
    loaded = load_head(folder, pick_device(device))
    head = attention_in(loaded, folder)
    test = open_test(Path(cache or loaded.config.cache) / "test.h5", folder)
    rows, labels = rows_of(test, loaded.classes)
    thetas, logits, batch = [], [], head.share_of(batch)
    for start in tqdm(range(0, len(rows), batch), desc="looking", unit="batch", leave=False, disable=None):
        with torch.inference_mode():
            found = head.attention(loaded.inputs(maps_of(loaded, test, rows[start : start + batch])))
        thetas.append(found.theta[0].float().cpu().numpy())  # (b, N, S, 4)
        logits.append(found.step_logits[0].float().cpu().numpy())
    transform = test.identity["transform"]
    _, height, width = loaded.map_shape
    boxes = region_boxes(np.concatenate(thetas), head.crops, (height, width), int(transform["image_px"]))
    present = labels == 1 if labels.ndim > 1 else np.eye(len(loaded.classes), dtype=bool)[labels]
    paths = [test.paths[row] for row in rows]
    return Looked(paths, loaded.classes, transform, boxes, np.concatenate(logits), present)


def attention_in(loaded: LoadedHead, folder: Path) -> RecurrentAttention:
    """The head of a run. Raises: RunError when it looks at no regions."""
    if isinstance(loaded.head, RecurrentAttention):
        return loaded.head
    raise RunError(
        f"{folder}: expected --head recurrent-attention, found {loaded.config.head}, without regions"
    )


class Images:
    """The images that a cache was made from, by path, whichever split they are in now."""

    def __init__(self, test: FeatureCache) -> None:
        """Raises: DataError when the dataset isn't there any more."""
        unnoted = ExtractConfig.test_fraction  # by earlier versions
        share = test.notes.get("test_fraction", unnoted)
        opened = open_dataset(str(test.notes["dataset"]), test_fraction=share)
        self.splits = tuple(opened.values())
        self._places = {path: (split, row) for split in self.splits for row, path in enumerate(split.paths)}
        self._digests = dict(zip(test.paths, test.image_digests, strict=True))
        self._sizes: dict[str, tuple[int, int]] = {}

    def read(self, path: str) -> NDArray[np.uint8]:
        """(H, W, 3) pixels.

        Raises: StaleCacheError when the dataset has another image there by now, or none; DataError when it is
        damaged.
        """
        split, row = self._place(path)
        image, known = split.images.read(row), self._digests[path].tobytes()
        if any(known) and image.digest != known:
            raise StaleCacheError(
                f"{path}: another image of {split.dataset} than the cache was made from; extract it again"
            )
        self._sizes[path] = image.pixels.shape[0], image.pixels.shape[1]
        return image.pixels

    def size(self, path: str) -> tuple[int, int]:
        """(height, width). Raises: as `read`, which it takes once for each image."""
        if path not in self._sizes:
            self.read(path)
        return self._sizes[path]

    def boxes(self, path: str) -> Boxes | None:
        """Those of its objects, if they are known. Raises: StaleCacheError when there is no such image."""
        split, row = self._place(path)
        return None if split.boxes is None else split.boxes[row]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits[0].classes

    def _place(self, path: str) -> tuple[ImageSplit, int]:
        if path not in self._places:
            raise StaleCacheError(
                f"{path}: no such image in the dataset {self.splits[0].dataset} any more; extract it again"
            )
        return self._places[path]


def rate(looked: Looked, images: Images) -> HitRate | None:
    """How often a region lies on an object that is predicted, of the shown crop; None without boxes."""
    logits = looked.logits
    found = []
    for row, path in enumerate(looked.paths):
        boxes = images.boxes(path)
        if boxes is None:
            return None
        size = images.size(path)
        asked = asked_of(logits[row], looked.present[row])
        objects = renumbered(boxes, images.classes, looked.classes)
        found.append(Regions(size, looked.on_image(row, size)[looked.crop], objects, asked))
    return hit_rate(found, draws=200)


def renumbered(boxes: Boxes, known: tuple[str, ...], classes: tuple[str, ...]) -> Boxes:
    """Boxes (n, 5) of the dataset's classes → (n', 5) of the head's; those of other classes are left out."""
    place = np.array([classes.index(name) if name in classes else -1 for name in known])
    mine = boxes.copy()
    mine[:, 0] = place[boxes[:, 0].astype(np.int64)]
    return mine[mine[:, 0] >= 0]
