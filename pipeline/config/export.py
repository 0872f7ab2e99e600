"""The configuration of exporting a model."""

import dataclasses
from typing import Annotated

from pipeline.checks import Checked, FilePath
from pipeline.trunks import TRUNK_NAMES


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig(Checked):
    """Write a trained head and its trunk as one model that runs without this project.

    It takes uint8 images (B, 3, S, S) in RGB, any number at a time, and gives probabilities and logits. Class
    names, image size and preprocessing are in the file. What is written is run and compared first.
    """

    run: FilePath = "artifacts/runs/digits-alexnet-cifar-plain-fullnet-ten"
    """Folder of a trained head; of a sweep, its best head by validation is taken."""
    out: FilePath | None = None
    """File to write: .onnx for onnxruntime, which needs the extra export, or .pt2 for torch alone (default:
    RUN/model.onnx)."""
    weights: FilePath | None = None
    """File with the trunk's weights, if extract_features.py was given one (default: the weights that it ships
    with)."""
    trunk: Annotated[str, TRUNK_NAMES] | None = None
    """Where the trunk is now, if its code or folder has moved, such as PATH.py:FUNCTION (default: where the
    run says)."""
