"""Score runs on the test split. `make eval`, or `evaluate.py --help`."""

import sys

from pipeline.cli import COMMANDS, main

if __name__ == "__main__":
    sys.exit(main(*COMMANDS["evaluate"]))
