"""Does attention beat pooling on images with several labels? `python -m experiments.attention --help`."""

import sys

from experiments.attention.config import AttentionConfig
from pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main(AttentionConfig, "experiments.attention.ablation:ablate"))
