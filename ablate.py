"""Does ten-crop help, and by how much? `make ablate`, or `ablate.py --help`."""

import sys

from pipeline.cli import main
from pipeline.config import AblateConfig

if __name__ == "__main__":
    sys.exit(main(AblateConfig, "pipeline.ablate:ablate"))
