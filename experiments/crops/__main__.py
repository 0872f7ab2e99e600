"""Does ten-crop help, and by how much? `python -m experiments.crops --help`."""

import sys

from experiments.crops.config import CropsConfig
from pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main(CropsConfig, "experiments.crops.ablation:ablate"))
