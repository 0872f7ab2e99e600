"""Train a trunk before it is frozen. `make pretrain`, or `pretrain_trunk.py --help`."""

import sys

from pipeline.cli import COMMANDS, main

if __name__ == "__main__":
    sys.exit(main(*COMMANDS["pretrain"]))
