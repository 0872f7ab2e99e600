"""A trained run from Python: images in, probabilities out.

found = load_run("artifacts/runs/photos").predict(["new.jpg", "other.jpg"])
found.labels, found.probabilities, found.top_k(3)
"""

from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from pipeline.device import pick_device, set_up
from pipeline.errors import DataError
from pipeline.evaluation.logits import identity_in
from pipeline.images.pillow import hush
from pipeline.images.pool import Decoders
from pipeline.maps.stored import scales_in
from pipeline.prediction.images import Images, split_of
from pipeline.prediction.predicted import Predicted
from pipeline.prediction.scorer import Scorer, score_photos
from pipeline.runs import folder as runs
from pipeline.runs.find_run import find_run
from pipeline.runs.thresholds import UNCHOSEN, read_thresholds
from pipeline.trunks import trunk_of_identity


class Predictor:
    """A trained head, and the trunk that it was trained behind.

    `thresholds` (K,) are the probabilities from which an image has a label, where it may have several; of
    `unchosen` classes there was no validation image to choose one by.
    """

    def __init__(
        self, run: Path, device: str = "auto", weights: str | None = None, trunk: str | None = None
    ) -> None:
        """See `load_run`."""
        self.folder, self.device, self.weights, self.trunk = (
            find_run(run),
            pick_device(device),
            weights,
            trunk,
        )
        self.head = runs.load_head(self.folder, self.device)
        self.classes = self.head.classes
        self.described = runs.read_config(self.folder, "train")
        self.multi_label = bool(self.described["multi_label"])
        self.thresholds, self.unchosen = None, 0
        if self.multi_label:
            thresholds_K = read_thresholds(self.folder, len(self.classes))
            self.unchosen = int(np.isnan(thresholds_K).sum())
            self.thresholds = np.nan_to_num(thresholds_K, nan=UNCHOSEN)

    @cached_property
    def scorer(self) -> Scorer:
        """Trunk and head. Raises: as `trunk_of_identity`; RunError."""
        identity = identity_in(self.described, self.folder)
        set_up(self.device, tf32=False)
        trunk = trunk_of_identity(identity, self.weights, self.trunk)
        scales = scales_in(self.described, self.folder)
        return Scorer(self.head, trunk, identity, self.device, scales)

    def predict(self, images: Images, batch: int | None = None, decoders: int | None = None) -> Predicted:
        """Predict the classes of images.

        Args:
            images: paths, images of Pillow, uint8 arrays (H, W, 3) or tensors (3, H, W), or a batch of these;
                a single path may be a folder or a pattern.
            batch: images in a forward pass; None takes as many as suit the device.
            decoders: threads or processes that decode; None takes one per core.

        Raises: DataError naming the first image that can't be read or decoded; RunError, WeightsError when
            the trunk isn't that of the run's cache.
        """
        split = split_of(images)
        hush()
        logits = [np.empty((0, len(self.classes)), np.float32)]
        with Decoders([split], decoders) as readers:
            for piece in score_photos(self.scorer, split, readers, batch=batch):
                for row, reason in piece.bad.items():
                    raise DataError(f"{split.paths[row]}: {reason}")
                logits.append(piece.logits)
        return self.predicted(np.concatenate(logits))

    def predicted(self, logits: np.ndarray) -> Predicted:
        """The predictions that logits (N, K) of this head stand for."""
        return Predicted(logits, self.classes, self.thresholds)

    def logits(self, maps_BVCHW: Tensor) -> Tensor:
        """Score (B, V, C, H, W) float32 maps: (B, classes). Raises: RunError as `LoadedHead.logits`."""
        return self.head.logits(maps_BVCHW.to(self.device))


def load_run(
    run: Path | str, device: str = "auto", weights: Path | str | None = None, trunk: str | None = None
) -> Predictor:
    """Load a trained head, to predict with or to score maps; the trunk is loaded when it is first needed.

    Args:
        run: a run folder; of a sweep the best head by validation is taken.
        device: auto, cpu, cuda or mps.
        weights: the trunk's weights, where the cache was extracted with a file of them.
        trunk: where the trunk is now, if its code or folder has moved.

    Raises: RunError when there is no run, it isn't finished or the head diverged; WeightsError when the
        weights are damaged; ConfigError when the device isn't there.
    """
    return Predictor(Path(run), device, str(weights) if weights else None, trunk)
