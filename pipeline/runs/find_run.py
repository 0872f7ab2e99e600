"""Which folder is meant by a run's or a sweep's name."""

from pathlib import Path

from pipeline.errors import RunError
from pipeline.runs.layout import CONFIG, HEAD, LEADERBOARD
from pipeline.runs.leaderboard import read
from pipeline.runs.score import score_in


def find_run(folder: Path) -> Path:
    """The folder itself; of a sweep, that of its best head by validation, and a line about it is printed.

    Raises: RunError when there is no run, or no best head.
    """
    if not (folder / LEADERBOARD).exists():
        if not (folder / CONFIG).exists():
            raise RunError(f"{folder}: no run there; train_head.py --out {folder} makes one")
        return folder
    heads = read(folder)
    best, score = heads[0], heads[0][score_in(heads[0]).key]
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
            f"{folder}: its best head, {best['folder']}, is gone; run the same train_head.py command again "
            f"to train it{other}"
        )
    print(f"best by validation in {folder}: {best['folder']} ({score_in(best).in_words(best)})")
    return folder / best["folder"]
