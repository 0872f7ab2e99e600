"""Stage one: images → trunk → cache. `make extract`, or `extract_features.py --help`."""

import sys

from pipeline.cli import main
from pipeline.config import ExtractConfig

if __name__ == "__main__":
    sys.exit(main(ExtractConfig, "pipeline.extraction.stage:extract"))
