"""Heads as scikit-learn classifiers: its checks pass, and they are the heads that train_head.py trains."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from support.toy import CLASSES, config, write_cache, write_multilabel_cache
from support.trained import weights

from cache import FeatureCache
from pipeline import HeadClassifier, TenCropClassifier, TrainConfig
from pipeline.errors import ConfigError, RunError
from pipeline.estimators.arrays import ArrayMaps
from pipeline.estimators.classifier import MapClassifier
from pipeline.heads import HEADS
from pipeline.runs.folder import load_head
from pipeline.training.stage import train

SMALL: dict[str, Any] = {"hidden": (6,), "epochs": 4, "batch": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("toy"))


def maps_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Maps (N, C, H, W) on the cache's memory, and labels."""
    cache = FeatureCache(folder / "train.h5")
    return cache.features[:, 0], cache.labels


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "estimator",
    [
        TenCropClassifier(hidden=(16,), epochs=8, device="cpu"),
        HeadClassifier("logistic", device="cpu"),
        HeadClassifier("knn", precision="float64", device="cpu"),
    ],
    ids=lambda estimator: getattr(estimator, "head", ""),
)
def test_scikit_learn_s_checks_pass(estimator: MapClassifier) -> None:
    """All of them: `expected_failed_checks` is empty. In float32, shares of votes of knn differ by 1e-6 with
    the size of a batch, and scikit-learn allows 1e-7."""
    results = check_estimator(estimator, on_skip=None)
    assert len(results) > 50


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "chosen",
    [{"val_fraction": 0.0}, {"val_fraction": 0.2}, {"folds": 3}],
    ids=lambda chosen: next(iter(chosen)),
)
@pytest.mark.parametrize("name", HEADS)
def test_a_fit_gives_the_weights_of_train_head(
    toy: Path, tmp_path: Path, name: str, chosen: dict[str, Any]
) -> None:
    run = train(config(toy, tmp_path / "run", head=name, seed=(5,), data_seed=5, **chosen))
    maps, labels = maps_of(toy)
    settings = {"val_fraction": None if "folds" in chosen else 0.0, "precision": "float64", **SMALL, **chosen}
    fitted = HeadClassifier(name, random_state=5, **settings).fit(maps, labels)
    found = {f"head.{key}": value for key, value in fitted._head.state_dict().items()}
    found |= {f"normaliser.{key}": value for key, value in fitted._normaliser.state_dict().items()}
    expected = weights(run)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key].to(value.dtype), value, rtol=0, atol=0)
    logits = load_head(run).logits(torch.from_numpy(maps[:, None].copy())).numpy()
    np.testing.assert_allclose(fitted.decision_function(maps), logits, rtol=1e-4, atol=1e-5)


def test_a_cache_its_array_and_flat_maps_are_taken_as_they_are(toy: Path) -> None:
    maps, labels = maps_of(toy)
    cache = FeatureCache(toy / "train.h5")
    by_array = TenCropClassifier(**SMALL).fit(maps, np.asarray(CLASSES)[labels])
    by_cache = TenCropClassifier(**SMALL).fit(cache)
    assert by_cache.classes_.tolist() == by_array.classes_.tolist() == list(CLASSES)
    np.testing.assert_array_equal(by_cache.predict_proba(cache), by_array.predict_proba(maps))
    other = TenCropClassifier(**SMALL).fit(cache, labels % 2)
    assert other.predict(cache).dtype == labels.dtype
    checked, numbers = TenCropClassifier()._checked(maps, labels)
    assert np.shares_memory(ArrayMaps(checked, numbers, CLASSES).maps, maps)
    linear, flat = HeadClassifier("linear", **SMALL), maps.mean((2, 3))
    by_cell = linear.fit(flat[:, :, None, None], labels).decision_function(flat)
    np.testing.assert_array_equal(linear.fit(flat, labels).decision_function(flat), by_cell)


def test_a_cache_of_int8_is_taken_by_its_values(tmp_path: Path) -> None:
    cache = FeatureCache(write_cache(tmp_path, dtype="int8") / "train.h5")
    values = cache.decode(cache.features)[:, 0]
    fitted, by_values = (
        TenCropClassifier(**SMALL).fit(cache),
        TenCropClassifier(**SMALL).fit(values, cache.labels),
    )
    for maps in (cache, values):
        found = fitted.decision_function(maps)
        np.testing.assert_allclose(found, by_values.decision_function(values), rtol=1e-3, atol=1e-3)


def test_searches_and_cross_validation_run_on_maps(toy: Path) -> None:
    maps, labels = maps_of(toy)
    assert cross_val_score(TenCropClassifier(**{**SMALL, "epochs": 20}), maps, labels, cv=3).min() > 0.9
    grid = {"head": ["gap", "fullnet"], "crops": ["ten", "full"], "lr": np.array([0.1, 1e-6])}
    search = GridSearchCV(HeadClassifier(**SMALL), grid, cv=2).fit(maps, labels)
    assert search.best_params_["lr"] == 0.1
    halved = make_pipeline(
        FunctionTransformer(lambda x: x / 2, check_inverse=False), TenCropClassifier(**SMALL)
    )
    assert halved.fit(maps, labels).score(maps, labels) > 0.9


@pytest.mark.parametrize("name", HEADS)
def test_pickled_and_cloned_they_are_the_same(toy: Path, name: str) -> None:
    maps, labels = maps_of(toy)
    fitted = HeadClassifier(name, **SMALL).fit(maps, labels)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(maps), fitted.predict_proba(maps))
    fresh: Any = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    np.testing.assert_array_equal(fresh.fit(maps, labels).predict_proba(maps), fitted.predict_proba(maps))


def test_several_labels_have_a_probability_each(tmp_path: Path) -> None:
    cache = FeatureCache(write_multilabel_cache(tmp_path, images=200) / "train.h5")
    fitted = HeadClassifier("gmp", **{**SMALL, "epochs": 40}).fit(cache)
    predicted, probabilities = fitted.predict(cache), fitted.predict_proba(cache)
    assert predicted.dtype == cache.labels.dtype
    np.testing.assert_array_equal(predicted, probabilities > 0.5)
    logits = fitted.decision_function(cache)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits.astype(np.float64))))
    counted = cache.labels >= 0
    assert (predicted == cache.labels)[counted].mean() > 0.9


def test_ten_crops_of_both_images_take_both_views(tmp_path: Path) -> None:
    folder = write_cache(tmp_path, views="mirror")
    cache = FeatureCache(folder / "train.h5")
    by_cache = TenCropClassifier(crops="ten-image", **SMALL).fit(cache)
    by_array = TenCropClassifier(crops="ten-image", **SMALL).fit(cache.features, cache.labels)
    np.testing.assert_array_equal(by_cache.predict_proba(cache), by_array.predict_proba(cache.features))
    with pytest.raises(ConfigError, match="ten-image needs a cache made with --views mirror"):
        TenCropClassifier(crops="ten-image", **SMALL).fit(cache.features[:, 0], cache.labels)


def test_a_random_state_draws_both_seeds(toy: Path) -> None:
    maps, labels = maps_of(toy)
    same, drawn = (
        [TenCropClassifier(random_state=state(), **SMALL).fit(maps, labels).predict_proba(maps) for _ in "ab"]
        for state in (lambda: np.random.RandomState(3), lambda: None)
    )
    np.testing.assert_array_equal(same[0], same[1])
    assert (drawn[0] != drawn[1]).any()


def test_nothing_is_printed(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("fullnet", "logistic"):
        HeadClassifier(name, val_fraction=0.2, **SMALL).fit(*maps_of(toy))
    assert capfd.readouterr() == ("", "")


def test_what_doesn_t_suit_is_refused_by_name(toy: Path) -> None:
    maps, labels = maps_of(toy)
    fitted = TenCropClassifier(**SMALL).fit(maps, labels)
    with pytest.raises(
        ValueError, match=r"expected maps of \(4, 5, 5\) in 1 views, as in fit, found \(4, 4, 5\)"
    ):
        fitted.predict(maps[:, :, :4])
    with pytest.raises(ValueError, match=r"X: expected \(N, D\), \(N, C, H, W\)"):
        TenCropClassifier(**SMALL).fit(maps[:, 0], labels)
    with pytest.raises(ConfigError, match="crop-cells: expected a crop that fits the map of 5×5 cells"):
        TenCropClassifier(crop_cells=9, **SMALL).fit(maps, labels)
    with pytest.raises(ConfigError, match=r"TrainConfig\.head: expected one of linear, .* found 'fulnet'"):
        HeadClassifier("fulnet").fit(maps, labels)
    with pytest.raises(ValueError, match="y: expected 1, 0 or -1 for each class"):
        TenCropClassifier(**SMALL).fit(maps, np.stack([labels, labels], 1))
    with pytest.raises(RunError, match="fullnet: diverged: the loss is not finite; give a smaller lr"):
        TenCropClassifier(**SMALL, lr=1000.0, weight_decay=10.0).fit(1e18 * maps, labels)


def test_defaults_are_those_of_the_command_line() -> None:
    """But for the validation part, which scikit-learn's own searches take the place of."""
    settings = TrainConfig()
    for estimator in (HeadClassifier(), TenCropClassifier()):
        own = {"val_fraction": 0.0, "random_state": 0}
        for name, value in estimator.get_params().items():
            default = own[name] if name in own else getattr(settings, name)
            assert value == (default[0] if name == "weight_decay" else default), name
