"""Stage two: cache → crops → head. `make train-head`, or `train_head.py --help`."""

import sys

from pipeline.cli import main
from pipeline.config import SweepConfig

if __name__ == "__main__":
    sys.exit(main(SweepConfig, "pipeline.sweep:sweep", again="add --resume to go on from the last epoch"))
