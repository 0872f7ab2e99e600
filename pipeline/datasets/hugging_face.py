"""Whatever the `datasets` library reads: a set on the Hugging Face hub, or files of its formats.

    hf:NAME   hf:NAME:CONFIG                       on the hub, or in the library's own store already
    hf:FOLDER                                      what `save_to_disk` wrote
    hf:FILE.parquet   hf:FOLDER   hf:'PATTERN'     parquet files, or webdataset's tar files

Files belong to the split that a word of their name says (train-0003.tar, val/1.parquet), and are one set
where none says any. validation is the validation part, and without a test split the test split; without
either a share of each class is drawn by seed. The library unpacks tar and parquet files once, into its own
store (HF_HOME). Images are left as bytes there, for the project's own decoder.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cache import Paths
from cache.remote import is_url
from pipeline.datasets import hf_columns as columns
from pipeline.datasets.base import ImageSplit, SplitName
from pipeline.datasets.hf_images import HubImages, described
from pipeline.datasets.hf_open import WORDS, in_one_line, opened
from pipeline.datasets.holdout import draw_test
from pipeline.errors import DataError
from pipeline.wording import shown, some

if TYPE_CHECKING:
    from datasets import Dataset


def load(
    path: str, test_fraction: float, seed: int, label_column: str | None = None
) -> dict[str, ImageSplit]:
    """Both splits, of one label to an image or of several, as the column of labels is.

    Raises: DataError when the library or the set is missing or damaged, or its columns aren't images and
        labels; ConfigError when the column of labels has to be named.
    """
    where = f"hf:{path}"
    if path.startswith("//") or is_url(path):
        url = f"hf:{path}" if path.startswith("//") else path
        raise DataError(
            f"{where}: expected a name on the hub, a folder or files, found a URL; image files are read from "
            f"one by folder:{url} or csv:{url}/labels.csv"
        )
    with in_one_line(where):
        found = opened(os.path.expanduser(path), where)
        roles = _roles(list(found), where)
        used = {name: found[name] for names in roles.values() for name in names}
        image = columns.image_column(used, where)
        label = columns.label_column(used, label_column, where)
        classes, labels = columns.read_labels(used, label, where)
        splits = {role: _split(role, names, used, image, where) for role, names in roles.items()}
    for role, names in roles.items():
        labels_N = np.concatenate([labels[name] for name in names])
        splits[role] = dataclasses.replace(splits[role], classes=classes, labels=labels_N)
    splits["train"] = dataclasses.replace(
        splits["train"],
        ignored=[f"{where}: split {shown(name)}" for name in found if name not in used],
        remarks=[f"{where}: images are in the column {image}, labels in {label}"],
    )
    if "test" not in splits:
        train, test = draw_test(splits["train"].labels, test_fraction, seed)
        drawn = dataclasses.replace(splits["train"].take(test), split="test", ignored=(), remarks=())
        splits = {"train": splits["train"].take(train), "test": drawn}
    return splits


def _split(
    role: SplitName, names: Sequence[str], parts: Mapping[str, "Dataset"], column: str, where: str
) -> ImageSplit:
    """The images of one part, or of two, of which the second is the validation part. Labels come later."""
    from datasets import Image, concatenate_datasets

    each = [parts[name].select_columns([column]) for name in names]
    if isinstance(each[0].features[column], Image):
        each = [part.cast_column(column, Image(decode=False)) for part in each]
    pictures = concatenate_datasets(each)
    sizes, files = described(pictures)
    rows = ((name, row) for name in names for row in range(len(parts[name])))
    named = zip(rows, files, strict=True)
    return ImageSplit(
        dataset="hf",
        split=role,
        classes=(),
        paths=Paths(f"{name}/{row:06}{file and '/' + file}" for (name, row), file in named),
        sizes=sizes,
        labels=np.zeros((len(sizes), 0), np.int8),
        images=HubImages(pictures, sizes, where),
        val_rows=sum(len(parts[name]) for name in names[1:]),
    )


def _roles(names: Sequence[str], where: str) -> dict[SplitName, list[str]]:
    """Which parts are trained on, those of validation last, and which are tested on; of one part none is."""
    if len(names) == 1:
        return {"train": [*names]}
    train, test, val = ([name for name in names if name.lower() in WORDS[role]] for role in WORDS)
    if not train or not (test or val):
        raise DataError(
            f"{where}: expected splits called train and test or validation, found {some(map(shown, names))}; "
            "save the right ones under these names by DatasetDict(train=..., test=...).save_to_disk(FOLDER)"
        )
    if test:
        return {"train": [train[0], *val[:1]], "test": test[:1]}
    return {"train": train[:1], "test": val[:1]}
