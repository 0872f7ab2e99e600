"""Predict the classes of photos. `make predict`, or `predict.py --help`."""

import sys

from pipeline.cli import COMMANDS, main

if __name__ == "__main__":
    sys.exit(main(*COMMANDS["predict"]))
