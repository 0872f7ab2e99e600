"""How a model is written and run in each format. A new one is an entry in `FORMATS`."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.onnx import ONNXProgram

from pipeline.errors import ConfigError, needs_extra
from pipeline.export.model import Exportable

NAMES = ("probabilities", "logits")
"""The outputs of a model, in their order."""
ONNX_BYTES = (1 << 31) - (1 << 24)
"""What a single ONNX file can hold of weights."""

SIZES = {"images": {0: torch.export.Dim("batch")}}
"""The sizes of a model's input that aren't fixed."""

Run = Callable[[Tensor], list[Tensor]]
"""uint8 images (B, 3, S, S) → the outputs."""


class Format(NamedTuple):
    """One way to ship a model."""

    runtime: str
    """What runs it."""
    write: Callable[[Exportable, Path], None]
    load: Callable[[Path], Run]


def record(made: Exportable) -> torch.export.ExportedProgram:
    """Record the model for any number of images."""
    with torch.no_grad(), quiet():
        program = torch.export.export(made.model, (made.images(3),), dynamic_shapes=SIZES)
    for node in program.graph.nodes:  # which name files of this machine
        node.meta.pop("stack_trace", None)
    return program


def write_pt2(made: Exportable, path: Path) -> None:
    """Write what `torch.export.load` reads, with the facts in the extra file metadata.json."""
    with quiet(), path.open("wb") as file:
        facts = json.dumps(made.facts, ensure_ascii=False, indent=1)
        torch.export.save(record(made), file, extra_files={"metadata.json": facts})  # pyright: ignore[reportArgumentType]


def load_pt2(path: Path) -> Run:
    """A file that `write_pt2` wrote, as torch alone runs it."""
    with quiet(), path.open("rb") as file:
        module = torch.export.load(file).module()  # pyright: ignore[reportArgumentType]
    return lambda images: list(module(images))


def write_onnx(made: Exportable, path: Path) -> None:
    """Write an ONNX file, with the facts in its metadata. Raises: ConfigError without the extra, or where the
    weights are too many for the format."""
    with needs_extra("--out: .onnx", "export"):
        import onnxscript as _  # noqa: F401
    size = sum(t.nbytes for t in made.model.state_dict().values())
    if size > ONNX_BYTES:
        raise ConfigError(
            f"--out: a file in ONNX holds at most 2 GB, the weights take {size / 1e9:.1f}; give a .pt2"
        )
    with quiet():
        names: dict[str, Any] = {"input_names": ["images"], "output_names": NAMES, "dynamic_shapes": SIZES}
        program = cast(ONNXProgram, torch.onnx.export(record(made), dynamo=True, verbose=False, **names))
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()
        program.model.metadata_props.update(made.facts)
        program.save(path)


def load_onnx(path: Path) -> Run:
    """A file that `write_onnx` wrote, as onnxruntime runs it on a CPU. Raises: ConfigError without it."""
    with needs_extra("--out: .onnx", "export"):
        import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: [
        torch.from_numpy(found) for found in session.run(NAMES, {"images": images.numpy()})
    ]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what exporters say of their own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


FORMATS = {
    ".onnx": Format("onnxruntime", write_onnx, load_onnx),
    ".pt2": Format("torch", write_pt2, load_pt2),
}
"""Every format by the ending of its files."""
