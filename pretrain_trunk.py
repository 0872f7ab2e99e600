"""Train a trunk before it is frozen. `make pretrain`, or `pretrain_trunk.py --help`."""

import sys

from pipeline.cli import main
from pipeline.config import PretrainConfig

if __name__ == "__main__":
    sys.exit(main(PretrainConfig, "pipeline.pretraining.stage:pretrain"))
