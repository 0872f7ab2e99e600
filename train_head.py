"""Stage two: cache → crops → head. `make train-head`, or `train_head.py --help`."""

import sys

from pipeline.cli import main
from pipeline.config import SweepConfig

if __name__ == "__main__":
    again = "add --resume to go on from the last checkpoint, one of which is made every 30 s"
    smaller = "give a smaller --batch and another --out"  # the batch decides what is learned
    sys.exit(main(SweepConfig, "pipeline.training.sweep:sweep", again, smaller))
