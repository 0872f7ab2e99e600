"""From image files to test scores: all three stages in one process. `make run`, or `run.py --help`."""

import sys

from pipeline.cli import COMMANDS, main

if __name__ == "__main__":
    sys.exit(main(*COMMANDS["run"]))
