"""Write a report of runs as one HTML file. `report.py --help`."""

import sys

from pipeline.cli import COMMANDS, main

if __name__ == "__main__":
    sys.exit(main(*COMMANDS["report"]))
