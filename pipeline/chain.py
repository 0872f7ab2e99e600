"""The three stages in one process: image files → cache → heads → scores of the best one on the test split.

Stages share files as ever, so that each can be run alone, before or after; here nothing is imported twice.
What the later ones need is imported by a thread while the first lists images and decodes, which leaves the
interpreter free for most of the time.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pkgutil import resolve_name

from pipeline.config import RunConfig
from pipeline.extraction.stage import extract

LATER = "pipeline.training.sweep:sweep", "pipeline.evaluation.stage:evaluate"


def run(config: RunConfig) -> Path:
    """Extract, train and score; gives metrics.json of the head that validation chose.

    Raises: as `extract`, `train_heads` and `evaluate`.
    """
    with ThreadPoolExecutor(1) as ahead:
        later = [ahead.submit(resolve_name, name) for name in LATER]
        extract(config.extraction())
        train, evaluate = (stage.result() for stage in later)
    return evaluate(config.evaluation(train(config.training())))
