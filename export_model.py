"""Ship a model: run folder → .onnx or .pt2. `make export-model`, or `export_model.py --help`."""

import sys

from pipeline.cli import COMMANDS, main

if __name__ == "__main__":
    sys.exit(main(*COMMANDS["export"]))
