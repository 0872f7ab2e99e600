"""Heads as scikit-learn classifiers on maps: `fit`, `predict`, `score`, `clone`, `GridSearchCV`, pipelines.

    from pipeline import TenCropClassifier

    head = TenCropClassifier(epochs=10).fit(maps, labels)  # (N, C, H, W)
    head.predict_proba(others)

They are trained by the code of train_head.py: the same maps, settings and seed give the same weights.

Shapes: N images, C×H×W cells of a map, K classes.
"""

from typing import Any, Self

import numpy as np
import torch
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from cache import FeatureCache, Labels
from pipeline.checks import kinds
from pipeline.config import TrainConfig
from pipeline.estimators.arrays import DTYPES, stored
from pipeline.maps.stored import decoded, to_tensor
from pipeline.training.learn import learn

BATCH = 500
"""Maps of a forward pass."""
SEEDS = 2**31 - 1


class MapClassifier(ClassifierMixin, BaseEstimator):
    """What the classifiers have in common; a parameter that `TrainConfig` has means what it means there.

    Attributes:
        classes_: (K,) the labels, ascending; of several labels per image the numbers of the columns.
        map_shape_: (C, H, W) of the maps.
        n_features_in_: the second dimension of X.
    """

    head: str
    random_state: int | RandomState | None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Train on maps.

        Args:
            X: an array (N, C, H, W) or (N, D), (N, 2, C, H, W) for `crops="ten-image"`, or a `FeatureCache`.
            y: (N,) labels of any kind, or (N, K) with 1 present, 0 absent and -1 not counted; of a cache None
                takes its own.

        Raises: ValueError as scikit-learn; ConfigError when a parameter doesn't suit the maps; RunError when
            the head diverges.
        """
        X, labels = self._checked(X, y)
        config = self._config()
        names = tuple(map(str, self.classes_))
        self._head, self._normaliser = learn(config, maps := stored(X, labels, names))
        self.map_shape_ = maps.shape[2:]
        return self

    def decision_function(self, X: Any) -> NDArray[np.floating]:
        """Logits (N, K); of two classes (N,), the second's minus the first's."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 and not self._several else logits

    def predict_proba(self, X: Any) -> NDArray[np.floating]:
        """Probabilities (N, K): of one label they sum to 1, of several each stands by itself."""
        logits = torch.from_numpy(self._logits(X)).double()
        return (logits.sigmoid() if self._several else logits.softmax(1)).numpy()

    def predict(self, X: Any) -> NDArray[Any]:
        """The label (N,) of each map; of several labels (N, K) with 1 from a probability of ½ on."""
        logits = self._logits(X)
        return (logits > 0).astype(self._label_type) if self._several else self.classes_[logits.argmax(1)]

    def _config(self) -> TrainConfig:
        """The parameters as the configuration of stage two. Raises: ConfigError."""
        fields, settings = kinds(TrainConfig), {}
        for name, value in {"head": self.head, **self.get_params()}.items():
            if name in fields:
                value = tuple(value) if isinstance(value, list) else value
                value = value.item() if isinstance(value, np.generic) else value
                single = fields[name].many and isinstance(value, int | float)
                settings[name] = (value,) if single else value
        seed = self.random_state
        if not isinstance(seed, int):
            seed = int(check_random_state(seed).randint(SEEDS))
        return TrainConfig(**settings, seed=(seed,), data_seed=seed)

    def _checked(self, X: Any, y: ArrayLike | None) -> tuple[Any, Labels]:
        """Maps and labels by number, (N,) or (N, K); sets what is known of them."""
        if isinstance(X, FeatureCache):
            self.n_features_in_ = X.shape[2]
            if y is None:
                y = X.labels if X.multi_label else np.asarray(X.classes)[X.labels]
            y = np.asarray(y)
            if len(y) != len(X):
                raise ValueError(f"y: expected labels of {len(X)} images, found {len(y)}")
        else:
            given: Any = y
            X, y = validate_data(self, X, given, dtype=list(DTYPES), allow_nd=True, multi_output=True)
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = self._column(y)
        self._several, self._label_type = y.ndim == 2, y.dtype
        if self._several:
            if not np.isin(y, (-1, 0, 1)).all():
                raise ValueError("y: expected 1, 0 or -1 for each class, found other values")
            self.classes_ = np.arange(y.shape[1])
            return X, y.astype(np.int8)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        return X, numbers.astype(np.int64)

    def _column(self, y: NDArray[Any]) -> NDArray[Any]:
        from sklearn.utils.validation import column_or_1d

        return column_or_1d(y, warn=True)

    def _maps(self, X: Any) -> FeatureCache:
        """Maps to score. Raises: ValueError when they have another shape than those of `fit`."""
        if not isinstance(X, FeatureCache):
            X = validate_data(self, X, dtype=list(DTYPES), allow_nd=True, reset=False)
        maps = stored(X, np.zeros(0, np.int64), ())
        if maps.shape[2:] != self.map_shape_ or maps.shape[1] < self._head.views:
            raise ValueError(
                f"X: expected maps of {self.map_shape_} in {self._head.views} views, as in fit, found "
                f"{maps.shape[2:]} in {maps.shape[1]}"
            )
        return maps

    @torch.inference_mode()
    def _logits(self, X: Any) -> NDArray[np.floating]:
        """(N, K), each map by itself."""
        check_is_fitted(self, "classes_")
        maps, head = self._maps(X), self._head
        like, step = next(head.parameters()), head.share_of(BATCH)
        found = []
        for start in range(0, maps.shape[0], step):
            rows = np.arange(start, min(start + step, maps.shape[0]))
            maps.verify(rows)
            raw = to_tensor(maps.take(rows, slice(head.views)), maps.dtype)
            found.append(
                head(head.prepare(self._normaliser(decoded(raw.to(like.device), maps.scales).to(like))))[0]
                .cpu()
                .numpy()
            )
        return np.concatenate(found)


class HeadClassifier(MapClassifier):
    """Any head of train_head.py as a scikit-learn classifier; its help texts explain the parameters."""

    def __init__(
        self,
        head: str = "fullnet",
        *,
        crops: str = "ten",
        crop_cells: int | None = None,
        hidden: tuple[int, ...] = (512,),
        dropout: float = 0.0,
        loss: str = "auto",
        csra_lambda: float = 0.3,
        csra_temperature: tuple[float, ...] = (1.0,),
        steps: int = 5,
        region_cells: int | None = None,
        region_start: str = "anchors",
        localisation: float = 0.1,
        optimizer: str = "auto",
        lr: float | None = None,
        weight_decay: float = 5e-4,
        epochs: int = 20,
        batch: int | None = None,
        val_fraction: float | None = 0.0,
        folds: int | None = None,
        precision: str = "float32",
        device: str = "auto",
        random_state: int | RandomState | None = 0,
    ) -> None:
        """`val_fraction`: the share of the images that chooses the best epoch, or the setting of logistic and
        knn; 0, for every image to be learned from. `random_state` is both seeds of train_head.py."""
        self.head, self.crops, self.crop_cells, self.hidden = head, crops, crop_cells, hidden
        self.dropout, self.loss, self.csra_lambda = dropout, loss, csra_lambda
        self.csra_temperature, self.steps, self.region_cells = csra_temperature, steps, region_cells
        self.region_start, self.localisation, self.optimizer = region_start, localisation, optimizer
        self.lr, self.weight_decay, self.epochs, self.batch = lr, weight_decay, epochs, batch
        self.val_fraction, self.folds, self.precision = val_fraction, folds, precision
        self.device, self.random_state = device, random_state


class TenCropClassifier(MapClassifier):
    """FullNet on ten crops of each map, scores averaged: `HeadClassifier("fullnet")` with what it reads."""

    head = "fullnet"

    def __init__(
        self,
        *,
        crops: str = "ten",
        crop_cells: int | None = None,
        hidden: tuple[int, ...] = (512,),
        dropout: float = 0.0,
        lr: float | None = None,
        weight_decay: float = 5e-4,
        epochs: int = 20,
        batch: int | None = None,
        val_fraction: float | None = 0.0,
        precision: str = "float32",
        device: str = "auto",
        random_state: int | RandomState | None = 0,
    ) -> None:
        """As `HeadClassifier`."""
        self.crops, self.crop_cells, self.hidden, self.dropout = crops, crop_cells, hidden, dropout
        self.lr, self.weight_decay, self.epochs, self.batch = lr, weight_decay, epochs, batch
        self.val_fraction, self.precision, self.device = val_fraction, precision, device
        self.random_state = random_state
