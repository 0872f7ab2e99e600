"""Does attention beat pooling on images with several labels? See `ablate_attention.py --help`."""

import sys

from pipeline.attention_config import AttentionConfig
from pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main(AttentionConfig, "pipeline.ablate_attention:ablate"))
