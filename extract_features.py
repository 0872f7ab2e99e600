"""Stage one: images → trunk → cache. `make extract`, or `extract_features.py --help`."""

import sys

from pipeline.cli import COMMANDS, main

if __name__ == "__main__":
    sys.exit(main(*COMMANDS["extract"]))
