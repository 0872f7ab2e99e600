"""Score runs on the test split.

run folder + CACHE/test.h5 → RUN/eval/{predictions.npz, confusion.png or ap.png, metrics.json}

Images with one label each are scored by `metrics`, with several by `multilabel_metrics`: the cache
says which.
"""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import EvaluateConfig
from pipeline.errors import RunError
from pipeline.evaluation.compare import compare, refuse_mixed
from pipeline.evaluation.plots import number, plot_ap, plot_confusion, table
from pipeline.evaluation.predict import predict
from pipeline.evaluation.regions.show import REGIONS, has_regions, show_regions
from pipeline.files import read_json, write_json
from pipeline.metrics import multilabel as multilabel_metrics
from pipeline.metrics import single_label as metrics
from pipeline.runs import leaderboard
from pipeline.runs.folder import LEADERBOARD, read_config
from pipeline.training.validation import score_in

STAGES = {
    "train": "pipeline.evaluation.stage:score_head",
    "pretrain": "pipeline.pretraining.score:score_trunk",
}
"""What scores a run folder, by the stage that made it: (config, folder) → RUN/eval/metrics.json."""

SINGLE = {"top-1 %": "top1", "top-5 %": "top5", "NLL": "nll", "ECE %": "ece"}
MULTI = {
    "mAP %": "map",
    "11-point mAP %": "map_11_point",
    "CF1 %": "at_half cf1",
    "OF1 %": "at_half of1",
    "top-3 CF1 %": "top3 cf1",
    "top-3 OF1 %": "top3 of1",
}
"""The table's columns, and where metrics.json has their values."""


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
    if config.show_regions and not any(map(has_regions, folders)):
        raise RunError(
            f"--show-regions: expected a run of --head recurrent-attention, {folders[0]} looks at no regions"
        )
    written = [resolve_name(STAGES[s])(config, folder) for s, folder in zip(stages, folders, strict=True)]
    found = [read_json(path) for path in written]
    refuse_mixed(folders, ["map" in scores for scores in found])
    print(results(folders, found))
    made = [file for path in written for file in sorted(path.parent.iterdir()) if file.suffix != ".part"]
    if len(folders) > 1:
        made.append(compare(config, folders))
    print(*made, sep="\n")
    return written[0]


def find_run(folder: Path) -> Path:
    """The folder itself; of a sweep, that of its best head by validation. Raises: RunError."""
    if (folder / LEADERBOARD).exists():
        best = leaderboard.read(folder)[0]
        score = best[score_in(best).key]
        if score is None:
            raise RunError(f"{folder}: a sweep without validation has no best head; name one of its folders")
        if not (folder / best["folder"] / "config.json").exists():
            raise RunError(f"{folder}: a sweep whose best head, {best['folder']}, is gone; train it again")
        print(f"{folder}: a sweep; {best['folder']} is best by validation ({score:.2f} %)")
        return folder / best["folder"]
    if not (folder / "config.json").exists():
        raise RunError(f"{folder}: no run there; train_head.py --out {folder} makes one")
    return folder


def stage_of(folder: Path) -> str:
    """What made the folder. Raises: RunError when it is none of `STAGES`."""
    return read_config(folder, *STAGES)["stage"]


def score_head(config: EvaluateConfig, folder: Path) -> Path:
    """Score one head; writes predictions.npz, a picture and metrics.json (last) in RUN/eval."""
    found = predict(folder, cache=config.cache, batch=config.batch, device=config.device)
    classes, out = tuple(found.classes.tolist()), folder / "eval"
    kind = multilabel_metrics if found.multi_label else metrics
    scores = kind.score(found.logits, found.labels, classes)
    for name in REGIONS:  # of an earlier evaluation, maybe on another cache
        (out / name).unlink(missing_ok=True)
    if config.show_regions and has_regions(folder):
        show_regions(config, folder)
    found.save(out / "predictions.npz")
    if found.multi_label:
        plot_ap(out / "ap.png", scores["per_class"], scores["map"])
    else:
        plot_confusion(out / "confusion.png", scores["confusion"], classes)
    write_json(out / "metrics.json", scores | {"classes": list(classes), "units": kind.UNITS})
    return out / "metrics.json"


def score_run(folder: Path, *, device: str = "auto") -> NDArray[np.bool_]:
    """Which of its cache's test images a head answers right, (N,); writes nothing.

    Raises: as `predict`; ValueError of a multi-label run.
    """
    return predict(folder, device=device).correct


def results(folders: list[Path], found: list[dict[str, Any]]) -> str:
    """The table: a line per run, all of one kind."""
    columns = MULTI if "map" in found[0] else SINGLE
    rows = [
        [str(folder), *(_cell(scores, keys.split()) for keys in columns.values())]
        for folder, scores in zip(folders, found, strict=True)
    ]
    return table(["run", *columns], rows)


def _cell(scores: dict[str, Any], keys: list[str]) -> str:
    value: Any = scores
    for key in keys:
        value = value.get(key) if value else None
    return number(value, 4 if keys == ["nll"] else 2)
