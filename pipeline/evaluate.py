"""Score runs on the test split.

run folder + CACHE/test.h5 → RUN/eval/{predictions.npz, confusion.png, metrics.json}
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.compare import compare
from pipeline.config import EvaluateConfig
from pipeline.errors import RunError
from pipeline.metrics import UNITS, score
from pipeline.predictions import predict
from pipeline.registry import resolve
from pipeline.report import number, plot_confusion, table
from pipeline.runs import read_json, write_json

STAGES = {"train": "pipeline.evaluate:score_head", "pretrain": "pipeline.test_policies:score_trunk"}
"""What scores a run folder, by the stage that made it: (config, folder) → RUN/eval/metrics.json."""


def evaluate(config: EvaluateConfig) -> Path:
    """Score every run, print a table, compare the others with the first; gives the first's metrics.json.

    Raises: RunError when a run is missing or unfinished, or runs can't be compared; StaleCacheError when the
    test maps were made otherwise than those the head learned from; CacheError, ConfigError, WeightsError.
    """
    folders = [find_run(Path(run)) for run in config.run]
    stages = [stage_of(folder) for folder in folders]
    if len(folders) > 1 and set(stages) != {"train"}:
        whole = folders[stages.index("pretrain")]
        raise RunError(f"{whole}: a whole network can't be compared; score it alone with --run {whole}")
    written = [resolve(STAGES, s)(config, folder) for s, folder in zip(stages, folders, strict=True)]
    print(results(folders, [read_json(path) for path in written]))
    made = [file for path in written for file in sorted(path.parent.iterdir()) if file.suffix != ".part"]
    if len(folders) > 1:
        made.append(compare(config, folders))
    print(*made, sep="\n")
    return written[0]


def find_run(folder: Path) -> Path:
    """The folder itself; of a sweep, that of its best head by validation. Raises: RunError."""
    if (folder / "leaderboard.json").exists():
        best = read_json(folder / "leaderboard.json")["heads"][0]
        if best["val_top1"] is None:
            raise RunError(f"{folder}: a sweep without validation has no best head; name one of its folders")
        print(f"{folder}: a sweep; {best['folder']} is best by validation ({best['val_top1']:.2f} %)")
        return folder / best["folder"]
    if not (folder / "config.json").exists():
        raise RunError(f"{folder}: no run there; train_head.py --out {folder} makes one")
    return folder


def stage_of(folder: Path) -> str:
    """What made the folder. Raises: RunError when it is none of `STAGES`."""
    stage = read_json(folder / "config.json").get("stage")
    if stage not in STAGES:
        expected = " or ".join(STAGES)
        raise RunError(f"{folder / 'config.json'}: expected the stage {expected}, found {stage!r}")
    return stage


def score_head(config: EvaluateConfig, folder: Path) -> Path:
    """Score one head; writes predictions.npz, confusion.png and metrics.json (last) in RUN/eval."""
    found = predict(folder, cache=config.cache, batch=config.batch, device=config.device)
    classes, out = tuple(found.classes.tolist()), folder / "eval"
    metrics = score(found.logits, found.labels, classes)
    found.save(out / "predictions.npz")
    plot_confusion(out / "confusion.png", metrics["confusion"], classes)
    write_json(out / "metrics.json", metrics | {"classes": list(classes), "units": UNITS})
    return out / "metrics.json"


def score_run(folder: Path, *, device: str = "auto") -> NDArray[np.bool_]:
    """Which of its cache's test images a head answers right, (N,); writes nothing. Raises: as `predict`."""
    return predict(folder, device=device).correct


def results(folders: list[Path], metrics: list[dict[str, Any]]) -> str:
    """The table: a line per run."""
    columns = {"top1": ("top-1 %", 2), "top5": ("top-5 %", 2), "nll": ("NLL", 4), "ece": ("ECE %", 2)}
    rows = [
        [str(folder), *(number(found.get(name), digits) for name, (_, digits) in columns.items())]
        for folder, found in zip(folders, metrics, strict=True)
    ]
    return table(["run", *(title for title, _ in columns.values())], rows)
