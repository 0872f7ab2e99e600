"""Stage two: cache → crops → heads. `make train-head`, or `train_head.py --help`."""

import sys

from pipeline.cli import COMMANDS, main

if __name__ == "__main__":
    sys.exit(main(*COMMANDS["train"]))
