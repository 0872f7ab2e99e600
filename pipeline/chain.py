"""The three stages in one process: image files → cache → heads → scores of the best one on the test split.

Stages share files as ever, so that each can be run alone, before or after; here nothing is imported twice.
"""

from pathlib import Path

from pipeline.config import RunConfig
from pipeline.evaluation.stage import evaluate
from pipeline.extraction.stage import extract
from pipeline.training.sweep import sweep


def run(config: RunConfig) -> Path:
    """Extract, train and score; gives metrics.json of the head that validation chose.

    Raises: as `extract`, `train_heads` and `evaluate`.
    """
    extract(config.extraction())
    return evaluate(config.evaluation(sweep(config.training())))
