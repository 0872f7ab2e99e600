"""Score runs on the test split. `make eval`, or `evaluate.py --help`."""

import sys

from pipeline.cli import main
from pipeline.config import EvaluateConfig

if __name__ == "__main__":
    sys.exit(main(EvaluateConfig, "pipeline.evaluation.stage:evaluate"))
