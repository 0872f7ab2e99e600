"""Compare runs with the first of them, on the same images: those with the same contents and labels."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.evaluation.scored import Predictions, Scored
from pipeline.files import write_json
from pipeline.metrics.bootstrap import Interval, mean_ap_interval, top1_interval
from pipeline.progress import over
from pipeline.runs.table import table
from pipeline.wording import slug


def compare(scored: list[Scored], out: Path, *, resamples: int, seed: int) -> Path:
    """Print and write each run's top-1 (multi-label: mAP) minus the first's, with 95 % paired intervals. Of a
    single run the file holds its score.

    Raises: RunError when the runs were not scored on the same images with the same labels.
    """
    first, *others = scored
    base, runs = first.predictions, [_entry(first, Interval(0.0, 0.0, 0.0))]
    for run in over(others, "comparing", "runs"):
        other = in_order(first.folder, base, run.folder, run.predictions)
        if base.multi_label:
            found = mean_ap_interval(base.logits, other.logits, base.labels, resamples=resamples, seed=seed)
        else:
            found = top1_interval(base.correct, other.correct, resamples=resamples, seed=seed)
        runs.append(_entry(run, found))
    score, images = "mAP" if base.multi_label else "top-1", len(base.labels)
    if others:
        print(
            f"{score} minus that of {first.folder}, percentage points, 95 % interval over {images:,} images:"
        )
        rows = [[str(run["run"]), *(f"{run[name]:+.2f}" for name in Interval._fields)] for run in runs[1:]]
        print(table(["run", "difference", "from", "to"], rows))
    facts = {
        "baseline": str(first.folder),
        "images": images,
        "units": {
            "score": f"per cent: {score}",
            "difference": "percentage points, run minus baseline; low, high: 95 % paired bootstrap",
            "trained_on": "count of the images that the head was trained or validated on; null: not known",
            "cache": "what was scored on: the file, its key, and a digest of its images' contents",
        },
        "resamples": resamples,
        "seed": seed,
        "runs": runs,
    }
    write_json(out, facts)
    return out


def _entry(run: Scored, found: Interval) -> dict[str, object]:
    known = {name: run.scores[name] for name in ("trained_on", "cache")}
    return {"run": str(run.folder), "score": run.score, **found._asdict(), **known}


def comparison_file(scored: list[Scored]) -> Path:
    """A file of these runs' own: another comparison goes elsewhere, the same one there again."""
    names = "-".join(slug(run.folder.name) for run in scored)
    digest = hashlib.sha256("\0".join(str(run.out.resolve()) for run in scored).encode()).hexdigest()
    return Path("artifacts/comparisons") / f"{names[:80]}-{digest[:8]}.json"


def refuse_mixed(scored: list[Scored]) -> None:
    """Raises: RunError when some runs have one label per image and some several."""
    multi_label = [run.predictions.multi_label for run in scored]
    if len(set(multi_label)) > 1:
        one, several = (scored[multi_label.index(kind)].folder for kind in (False, True))
        raise RunError(f"{several}: has several labels per image, {one} has one: they can't be compared")


def in_order(folder_a: Path, a: Predictions, folder_b: Path, b: Predictions) -> Predictions:
    """Run b's predictions with a's images, in a's order; multi-label with a's classes, in their order, too.

    Images are the same if their files are, whatever these are called, and their labels.

    Raises: RunError when the classes are others, or naming the first image without a counterpart.
    """
    if a.multi_label:
        b = _with_classes_of(folder_a, a, folder_b, b)
    problem = f"{folder_b}: can't be compared with {folder_a}, which was scored on other images"
    if len(a.labels) != len(b.labels):
        raise RunError(f"{problem}: {len(a.labels):,} of them, here {len(b.labels):,}")
    numbers = {name: number for number, name in enumerate([*a.classes.tolist(), *b.classes.tolist()])}
    keys_a, keys_b = (_keys(run, numbers) for run in (a, b))
    rows_a, rows_b = np.argsort(keys_a, kind="stable"), np.argsort(keys_b, kind="stable")
    differing = np.flatnonzero(keys_a[rows_a] != keys_b[rows_b])
    if len(differing):
        alone = np.flatnonzero(~np.isin(keys_a, keys_b))  # none if they are only there more often
        row = int(alone[0] if len(alone) else rows_a[differing[0]])
        here = np.flatnonzero(b.contents == a.contents[row])
        found = f"it is {_named(b, int(here[0]))}" if len(here) else "there is none of its contents"
        raise RunError(f"{problem}: number {row} is {_named(a, row)}, here {found}")
    order = np.empty(len(rows_a), np.intp)
    order[rows_a] = rows_b
    return b._replace(
        logits=b.logits[order], labels=b.labels[order], paths=b.paths.take(order), contents=b.contents[order]
    )


def _with_classes_of(folder_a: Path, a: Predictions, folder_b: Path, b: Predictions) -> Predictions:
    names_a, names_b = a.classes.tolist(), b.classes.tolist()
    if set(names_a) != set(names_b):
        problem = f"{folder_b}: can't be compared with {folder_a}, which knows other classes"
        raise RunError(f"{problem}: only one of them has {', '.join(sorted(set(names_a) ^ set(names_b)))}")
    columns = [names_b.index(name) for name in names_a]
    return b._replace(logits=b.logits[:, columns], labels=b.labels[:, columns], classes=a.classes)


def _keys(run: Predictions, numbers: dict[str, int]) -> NDArray[np.bytes_]:
    """(N,) fixed-length bytes, equal where an image's contents and labels are."""
    if run.multi_label:
        rows = np.ascontiguousarray(run.labels, np.int8)
        digests = b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows)
        labels = np.frombuffer(digests, np.uint8)
    else:
        known = np.array([numbers[name] for name in run.classes.tolist()])
        labels = known[run.labels].view(np.uint8)
    parts = [part.view(np.uint8).reshape(len(run.labels), -1) for part in (run.contents, labels)]
    end = np.ones((len(run.labels), 1), np.uint8)  # numpy takes no notice of zero bytes at the end of a text
    return np.concatenate([*parts, end], axis=1).view("S25")[:, 0]


def _named(run: Predictions, row: int) -> str:
    """An image and the names of its labels; a question mark follows one that is not counted."""
    if not run.multi_label:
        return f"{run.paths[row]} ({run.classes[run.labels[row]]})"
    labels = zip(run.classes, run.labels[row], strict=True)
    names = ", ".join(f"{name}{'?' if value < 0 else ''}" for name, value in labels if value)
    return f"{run.paths[row]} ({names or 'no label'})"
