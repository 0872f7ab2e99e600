"""Score runs on the test split.

    run folder + CACHE/test.h5 → RUN/eval/{predictions.npz, metrics.json, confusion.png or ap.png}

The cache says whether images have one label each or several, and with that which metrics apply. Scores on
another cache than the run's own go into a folder beside, RUN/eval-NAME-DIGEST/.
"""

from pathlib import Path
from typing import Any

from pipeline.config import EvaluateConfig
from pipeline.errors import RunError
from pipeline.evaluation.class_names import LEGEND
from pipeline.evaluation.compare import compare, comparison_file, refuse_mixed
from pipeline.evaluation.confusion import plot_confusion
from pipeline.evaluation.duplicates import duplicates_of, write_duplicates
from pipeline.evaluation.duplicates import in_words as copies_in_words
from pipeline.evaluation.label_issues import in_words as issues_in_words
from pipeline.evaluation.label_issues import suspects, write_suspects
from pipeline.evaluation.logits import open_run, score_images
from pipeline.evaluation.plots import plot_ap
from pipeline.evaluation.scored import Scored
from pipeline.evaluation.trained_on import trained_on
from pipeline.files import write_json
from pipeline.metrics import multilabel, single_label
from pipeline.runs.find_run import find_run
from pipeline.runs.layout import read_config
from pipeline.runs.table import number, table
from pipeline.runs.tracking import track_test
from pipeline.wording import flag

ATTENTION = "recurrent-attention"
"""The head that looks at regions."""
REGIONS = ("regions.png", "regions.json")
PICTURES = ("confusion.png", "ap.png", LEGEND, *REGIONS)
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
UNITS = {
    "cache": "what was scored on: the file, its key, and a digest of its images' contents",
    "trained_on": "count of the images that the head was trained or validated on; null: not known",
}
LOOKING = "issues_split", "duplicate_cosine"
"""Settings of --label-issues and of --duplicates."""
UNREAD = {
    "a single head": ("resamples", "seed", "test_images", "draws", "decoders", *LOOKING),
    "heads": ("test_images", "draws", "decoders", *LOOKING),
    "a whole network": ("cache", "stage", "out", "resamples", "label_issues", "duplicates", *LOOKING),
    "--label-issues and --duplicates": (
        *("resamples", "seed", "test_images", "draws", "decoders", "out", "show_regions"),
    ),
    "--label-issues alone": ("duplicate_cosine",),
    "--duplicates alone": ("issues_split",),
}
"""Settings that change nothing. (With --out a single head has a file as several have, and they are in it.)"""


def evaluate(config: EvaluateConfig) -> Path:
    """Score every run, print a table, compare the others with the first; gives the first's metrics.json.

    Raises: RunError when a run is missing or unfinished, runs can't be compared, or test images were trained
    on and that isn't allowed; StaleCacheError when the test maps were made otherwise than those the head
    learned from; ConfigError for a setting that has no effect; CacheError, WeightsError.
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
        refuse_unread(config, "a whole network")
        from pipeline.pretraining.score import score_trunk  # decodes images, which heads don't need

        return score_trunk(config, folders[0])
    if config.label_issues or config.duplicates:
        return look_for_problems(config, folders)
    refuse_unread(config, "heads" if config.out or len(folders) > 1 else "a single head")
    scored = [score_head(config, *run) for run in zip(folders, attending, strict=True)]
    refuse_mixed(scored)
    print(results(scored))
    made = [file for run in scored for file in sorted(run.out.iterdir()) if file.suffix != ".part"]
    if config.out or len(scored) > 1:
        out = Path(config.out) if config.out else comparison_file(scored)
        made.append(compare(scored, out, resamples=config.resamples, seed=config.seed))
    print(*made, sep="\n")
    return scored[0].out / "metrics.json"


def look_for_problems(config: EvaluateConfig, folders: list[Path]) -> Path:
    """Write which labels are probably wrong, and which images are there twice; gives the last file."""
    refuse_unread(config, "--label-issues and --duplicates")
    if not (config.label_issues and config.duplicates):
        refuse_unread(config, f"{'--label-issues' if config.label_issues else '--duplicates'} alone")
    made: list[Path] = []
    for folder in folders:
        if config.label_issues:
            found = suspects(folder, config)
            print(issues_in_words(found))
            made.append(write_suspects(found))
        if config.duplicates:
            copies = duplicates_of(folder, config)
            print(copies_in_words(copies))
            made.append(write_duplicates(copies))
    print(*made, sep="\n")
    return made[-1]


def refuse_unread(config: EvaluateConfig, subject: str) -> None:
    """Raises: ConfigError naming a setting that was given and has no effect on what is scored."""
    defaults = EvaluateConfig()
    for name in UNREAD[subject]:
        if getattr(config, name) != getattr(defaults, name):
            raise config.refused(name, f"has no effect on {subject}; leave {flag(name)} out")


def score_head(config: EvaluateConfig, folder: Path, attends: bool) -> Scored:
    """Score one head; write predictions.npz, metrics.json and, last, pictures. Those of an earlier evaluation
    go before anything is written."""
    subject = open_run(folder, config.cache, config.device, config.stage)
    count, out = trained_on(subject, config.allow_trained_on), subject.out
    found = score_images(subject, config.batch)
    classes = tuple(found.classes.tolist())
    metrics = multilabel if found.multi_label else single_label
    scores = {
        **metrics.score(found.logits, found.labels, classes),
        "classes": list(classes),
        "trained_on": count,
        "cache": subject.cache,
        "units": metrics.UNITS | UNITS,
    }
    for name in PICTURES:
        (out / name).unlink(missing_ok=True)
    found.save(out / "predictions.npz", subject.cache)
    write_json(out / "metrics.json", scores)
    if subject.is_own:
        track_test(folder, read_config(folder, "train").get("log"), scores)
    if found.multi_label:
        plot_ap(out / "ap.png", scores["per_class"], scores["map"])
    else:
        plot_confusion(out / "confusion.png", scores["confusion"], classes)
    if config.show_regions and attends:
        from pipeline.evaluation.regions.sheet import show_regions  # reads the dataset's images

        sheet, listed = (out / name for name in REGIONS)
        show_regions(subject, sheet, listed, config.show_regions, batch=config.batch)
    return Scored(folder, out, found, scores)


def results(scored: list[Scored]) -> str:
    """The table of scores: a line per run, all of one kind."""
    columns = MULTI if scored[0].predictions.multi_label else SINGLE
    rows = [
        [str(run.folder), *(_cell(run.scores, *place.split()) for place in columns.values())]
        for run in scored
    ]
    return table(["run", *columns], rows)


def _cell(scores: dict[str, Any], key: str, rate: str = "") -> str:
    return number(scores[key][rate] if rate else scores[key], 4 if key == "nll" else 2)
