"""Where a head of recurrent attention looks on test images, and whether there is something there.

    run folder + CACHE/test.h5 + the dataset's images → regions in pixels of each image

Shapes: B images, N crops, S regions, K classes.
"""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cache import FeatureCache
from pipeline.datasets.base import Boxes, ImageSplit, open_dataset
from pipeline.device import pick_device
from pipeline.errors import RunError, StaleCacheError
from pipeline.heads.recurrent_attention import RecurrentAttention
from pipeline.predictions import maps_of, open_test, rows_of
from pipeline.region_hits import HitRate, Regions, asked_of, hit_rate
from pipeline.regions import BoxArray, region_boxes, to_image
from pipeline.runs import LoadedHead, load_head

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
    thetas, logits = [], []
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


class Images(NamedTuple):
    """The images of a dataset by path, whichever split they are in now."""

    splits: tuple[ImageSplit, ...]
    places: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, test: FeatureCache) -> Self:
        """Those that a cache was made from. Raises: DataError when the dataset isn't there any more."""
        splits = tuple(open_dataset(str(test.notes["dataset"])).values())
        return cls(
            splits, {path: (s, row) for s, split in enumerate(splits) for row, path in enumerate(split.paths)}
        )

    def read(self, path: str) -> tuple[np.ndarray, Boxes | None]:
        """(H, W, 3) uint8 pixels, and the boxes of its objects if they are known.

        Raises: StaleCacheError when the dataset doesn't have the image any more, DataError when it's damaged.
        """
        if path not in self.places:
            raise StaleCacheError(
                f"{path}: no such image in the dataset {self.splits[0].dataset} any more; extract it again"
            )
        s, row = self.places[path]
        boxes = self.splits[s].boxes
        return self.splits[s].images.read(row).pixels, None if boxes is None else boxes[row]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits[0].classes


def rate(looked: Looked, images: Images) -> HitRate | None:
    """How often a region lies on an object that is predicted, of the shown crop; None without boxes."""
    logits = looked.logits
    found = []
    for row, path in enumerate(looked.paths):
        pixels, boxes = images.read(path)
        if boxes is None:
            return None
        size = pixels.shape[0], pixels.shape[1]
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
