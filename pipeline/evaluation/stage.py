"""Score runs on the test split.

    run folder + CACHE/test.h5 → RUN/eval/{predictions.npz, confusion.png or ap.png, metrics.json}

The cache says whether images have one label each or several, and with that which metrics apply.
"""

from pathlib import Path
from typing import Any

from pipeline.config import EvaluateConfig
from pipeline.errors import RunError
from pipeline.evaluation.compare import compare, refuse_mixed
from pipeline.evaluation.plots import plot_ap, plot_confusion
from pipeline.evaluation.predict import Predictions, predict
from pipeline.files import write_json
from pipeline.metrics import multilabel, single_label
from pipeline.runs import leaderboard
from pipeline.runs.folder import HEAD, LEADERBOARD, read_config
from pipeline.runs.score import score_in
from pipeline.runs.table import number, table

ATTENTION = "recurrent-attention"
"""The head that looks at regions."""
REGIONS = ("regions.png", "regions.json")
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
    described = [read_config(folder, "train", "pretrain") for folder in folders]
    for folder, facts in zip(folders, described, strict=True):
        if facts["stage"] == "pretrain" and len(folders) > 1:
            raise RunError(f"{folder}: a whole network can't be compared; score it alone with --run {folder}")
    attending = [facts.get("head") == ATTENTION for facts in described]
    if config.show_regions and not any(attending):
        raise RunError(
            f"--show-regions: expected a run of --head {ATTENTION}, {folders[0]} looks at no regions"
        )
    if described[0]["stage"] == "pretrain":
        from pipeline.pretraining.score import score_trunk  # decodes images, which heads don't need

        return score_trunk(config, folders[0])
    scored = [score_head(config, *run) for run in zip(folders, attending, strict=True)]
    predictions = [found for found, _ in scored]
    refuse_mixed(folders, predictions)
    print(results(folders, [scores for _, scores in scored]))
    made = [
        file for folder in folders for file in sorted((folder / "eval").iterdir()) if file.suffix != ".part"
    ]
    if len(folders) > 1:
        out = Path(config.out or "artifacts/comparison.json")
        made.append(compare(folders, predictions, out, resamples=config.resamples, seed=config.seed))
    print(*made, sep="\n")
    return folders[0] / "eval/metrics.json"


def find_run(folder: Path) -> Path:
    """The folder itself, or in a sweep's folder that of its best head by validation. Raises: RunError."""
    if (folder / LEADERBOARD).exists():
        heads = leaderboard.read(folder)
        best = heads[0]
        score = best[score_in(best).key]
        if all(head.get("diverged") for head in heads):
            raise RunError(
                f"{folder}: all heads of this sweep diverged; train with a smaller --lr and another --out"
            )
        if score is None:
            raise RunError(f"{folder}: a sweep without validation has no best head; name one of its folders")
        left = [head["folder"] for head in heads if (folder / head["folder"] / HEAD).exists()]
        if best["folder"] not in left:
            other = f", or score the best that is left, --run {folder / left[0]}" if left else ""
            raise RunError(
                f"{folder}: its best head, {best['folder']}, is gone; run the same train_head.py command "
                f"again to train it{other}"
            )
        print(f"best by validation in {folder}: {best['folder']} ({score:.2f} %)")
        return folder / best["folder"]
    if not (folder / "config.json").exists():
        raise RunError(f"{folder}: no run there; train_head.py --out {folder} makes one")
    return folder


def score_head(config: EvaluateConfig, folder: Path, attends: bool) -> tuple[Predictions, dict[str, Any]]:
    """Score one head; write predictions.npz, metrics.json and, last, pictures in RUN/eval; gives the first
    two. Pictures of an earlier evaluation, perhaps of another cache, go before anything is written."""
    found = predict(folder, cache=config.cache, batch=config.batch, device=config.device)
    classes, out = tuple(found.classes.tolist()), folder / "eval"
    metrics = multilabel if found.multi_label else single_label
    scores = metrics.score(found.logits, found.labels, classes)
    for name in (*REGIONS, "confusion.png", "ap.png"):
        (out / name).unlink(missing_ok=True)
    found.save(out / "predictions.npz")
    write_json(out / "metrics.json", scores | {"classes": list(classes), "units": metrics.UNITS})
    if config.show_regions and attends:
        from pipeline.evaluation.regions.sheet import show_regions  # reads the dataset's images

        sheet, listed = (out / name for name in REGIONS)
        cache, batch, device = config.cache, config.batch, config.device
        show_regions(folder, sheet, listed, config.show_regions, cache=cache, batch=batch, device=device)
    if found.multi_label:
        plot_ap(out / "ap.png", scores["per_class"], scores["map"])
    else:
        plot_confusion(out / "confusion.png", scores["confusion"], classes)
    return found, scores


def results(folders: list[Path], found: list[dict[str, Any]]) -> str:
    """The table of scores: a line per run, all of one kind."""
    columns = MULTI if "map" in found[0] else SINGLE
    rows = [
        [str(folder), *(_cell(scores, *place.split()) for place in columns.values())]
        for folder, scores in zip(folders, found, strict=True)
    ]
    return table(["run", *columns], rows)


def _cell(scores: dict[str, Any], key: str, rate: str = "") -> str:
    return number(scores[key][rate] if rate else scores[key], 4 if key == "nll" else 2)
