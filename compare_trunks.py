"""Which trunk, which layer? Several on one dataset, ranked by quick heads. `compare_trunks.py --help`."""

import sys

from pipeline.cli import COMMANDS, main

if __name__ == "__main__":
    sys.exit(main(*COMMANDS["compare-trunks"]))
