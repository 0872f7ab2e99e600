"""Ship a model: run folder → one file from uint8 images to probabilities."""

from pathlib import Path

import torch
from torch import Tensor

from pipeline.config.export import ExportConfig
from pipeline.errors import RunError
from pipeline.export.formats import FORMATS, Run
from pipeline.export.model import Exportable, exportable
from pipeline.files import replacing
from pipeline.runs.find_run import find_run
from pipeline.wording import one_of

TOLERANCE = 1e-4
"""Largest difference allowed between a file's outputs and the model's, as a fraction of the largest value."""
ROUNDING = 4
"""How much more is allowed where maps are rounded, as a multiple of what rounding them changes. A number that
lies near the middle between two that the cache can hold may become the other one."""
BATCHES = (1, 3)
"""Numbers of images that a written file is tried with."""


def export_model(config: ExportConfig) -> Path:
    """Write the model of a run, or of a sweep's best head, run what was written, and give its path.

    Raises: RunError when there is no finished run, or the file's scores differ from the model's; ConfigError
    for another kind of file, or without the extra that one needs; WeightsError when the trunk is another one
    than the cache's.
    """
    if config.out and Path(config.out).suffix not in FORMATS:
        raise config.refused("out", one_of((f"FILE{suffix}" for suffix in FORMATS), config.out))
    folder = find_run(Path(config.run))
    out = Path(config.out) if config.out else folder / "model.onnx"
    form, made = FORMATS[out.suffix], exportable(folder, config.weights, config.trunk)
    with replacing(out) as part:
        form.write(made, part)
        worst, allowed = difference(made, form.load(part))
        if not worst < allowed:
            raise RunError(
                f"{out}: {form.runtime} gives logits that differ by {worst:.2g} of the largest, expected at "
                f"most {allowed:.2g}; nothing was written; give another format, {' or '.join(FORMATS)}"
            )
    side = made.image_px
    print(
        f"{out}: {out.stat().st_size / 1e6:,.1f} MB; uint8 RGB images (B, 3, {side}, {side}) → probabilities "
        f"and logits of {made.classes:,} classes; in {form.runtime} within {worst:.0e} of torch"
    )
    return out


@torch.no_grad()
def difference(made: Exportable, run: Run) -> tuple[float, float]:
    """Between what a written file and the model say of random images, and how much of that is allowed; both
    as fractions of the largest value. Outputs and batches are judged one by one; gives the worst of them."""
    found: list[tuple[float, float]] = []
    for count in BATCHES:
        images = made.images(count)
        maps = made.model.maps(images)
        unrounded, outputs = made.model.scores(maps), made.model.scores(made.model.stored_maps(maps))
        for other, expected, before in zip(run(images), outputs, unrounded, strict=True):
            found.append((_off(other, expected), TOLERANCE + ROUNDING * _off(before, expected)))
    return max(found, key=lambda pair: pair[0] / pair[1])


def _off(values: Tensor, expected: Tensor) -> float:
    share = (values - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
    return float(share.nan_to_num(nan=torch.inf))
