"""A run whose folder, classes, paths and settings are called what nobody should put into a page as it is."""

from pathlib import Path

import numpy as np

from cache import CacheHeader
from pipeline.evaluation.stage import evaluate
from pipeline.files import read_json, write_json
from support import toy
from support.evaluating import head, settings

NASTY = (
    "<script>document.title='run'</script>",
    "</script></style></title><img src=x onerror=\"document.title='run'\">",
    "'\" onmouseover=alert(1) x='",
    "a\u202egnp.exe",
    "&lt;b&gt;&amp;",
    "{{7*7}}${7*7}",
    "猫と犬",
    "قطة",
)


def nasty_run(folder: Path) -> Path:
    """An evaluated head, in a folder of its own."""
    name = NASTY[0].replace("/", "∕")
    run = head(nasty_cache(folder / "cache"), folder / "runs" / name, head="linear")
    evaluate(settings(run))
    config = read_json(run / "config.json")
    changed = {"optimizer": NASTY[1], NASTY[2]: NASTY[0], "products": NASTY[1]}
    write_json(run / "config.json", {**config, **changed})
    return run


def nasty_cache(folder: Path) -> Path:
    """Both splits of maps whose classes and paths are what nobody should put into a page as it is."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        labels = np.arange(160) % len(NASTY)
        maps = np.eye(8)[labels][:, None, :, None, None] + rng.normal(size=(160, 1, 8, 3, 3))
        paths = [f"{split}/{NASTY[label]}/{i}.png" for i, label in enumerate(labels)]
        identity = {"split": split, "trunk": {"name": NASTY[0], "layer": NASTY[1]}, "views": "plain"}
        header = CacheHeader(maps.shape, "float16", labels, paths, NASTY, identity, {"dataset": NASTY[2]})
        toy.write(folder / f"{split}.h5", header, maps)
    return folder
