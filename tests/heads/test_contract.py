"""What every head promises; a new entry in the registry is tested without anyone remembering."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.toy import config, write_cache

from cache import FeatureCache
from pipeline.config import SweepConfig, TrainConfig
from pipeline.errors import ConfigError
from pipeline.heads import HEADS, HeadInfo
from pipeline.heads.base import Examples, FittedHead, HeadSpec
from pipeline.heads.linear import Linear
from pipeline.heads.settings import HeadSettings
from pipeline.runs.folder import load_head
from pipeline.training.optimizer import make_optimizer
from pipeline.training.stage import train
from pipeline.training.sweep import sweep


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_is_loaded_again_and_scores_each_image_on_its_own(tmp_path: Path, name: str) -> None:
    folder = write_cache(tmp_path / "cache")
    lr = (0.3,) if HEADS[name].optimizer == "sgd" else (0.01,)
    run = train(config(folder, tmp_path / "run", head=name, epochs=30, hidden=(16,), lr=lr))
    loaded, data = load_head(run), FeatureCache(folder / "train.h5")
    maps = torch.from_numpy(data.take(np.arange(90), view=None))
    together = loaded.logits(maps)
    assert together.shape == (90, 3)
    assert (together.argmax(1).numpy() == data.labels).mean() > 0.95
    alone = torch.cat([loaded.logits(one) for one in maps.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert all(len(tensor) == 1 for tensor in loaded.head.state_dict().values())


def several(images: int, missing: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (B, 1, 6, 5, 5) in which each of three classes that is there fills a window; labels (B, 3)."""
    draw = torch.Generator().manual_seed(3)
    maps = 0.3 * torch.randn(images, 1, 6, 5, 5, generator=draw)
    labels = (torch.rand(images, 3, generator=draw) < 0.4).to(torch.int8)
    for label in range(3):
        maps[labels[:, label] == 1, 0, 2 * label, 1:4, 1:4] += 2
    if missing:
        labels[torch.rand(images, 3, generator=draw) < 0.2] = -1
    return maps, labels


def told_apart(scores: torch.Tensor, labels: torch.Tensor, loss: str) -> float:
    """The share of labels that are told right; where the softmax ranks the classes of an image alone, of
    images whose present classes are above the absent ones."""
    present = labels == 1
    if loss == "bce":
        return float(((scores > 0) == present).float().mean())
    mixed = [image for image in range(len(labels)) if 0 < present[image].sum() < labels.shape[1]]
    return sum(bool(scores[i][present[i]].min() > scores[i][~present[i]].max()) for i in mixed) / len(mixed)


@pytest.mark.no_cover
@pytest.mark.parametrize("loss", ["bce", "softmax-square"])
@pytest.mark.parametrize("name", [name for name, info in HEADS.items() if not info.fitted])
def test_a_head_learns_from_several_labels_some_not_counted(name: str, loss: str) -> None:
    settings = HeadSettings(hidden=(16,), loss=loss)  # pyright: ignore[reportArgumentType]
    head = HEADS[name].load()(HeadSpec(settings, (6, 5, 5), 3, (0, 1), 120, multi_label=True))
    lr = 0.3 if HEADS[name].optimizer == "sgd" else 0.01
    optimizer = make_optimizer(HEADS[name].optimizer, dict(head.named_parameters()), [lr, lr / 2], [0.0, 0.0])
    maps, labels = several(120, missing=True)
    inputs = head.prepare(maps)
    for _ in range(60):
        losses = head.losses(inputs, labels)
        assert losses.shape == (2,)
        losses.sum().backward()
        optimizer.step(1.0)
    maps, labels = several(100, missing=False)
    logits = head(head.prepare(maps))
    assert logits.shape == (2, 100, 3)
    least = {"bce": 0.95, "softmax-square": 1}[loss]
    assert all(told_apart(scores, labels, loss) >= least for scores in logits)


@pytest.mark.parametrize("loss", ["bce", "softmax-square"])
@pytest.mark.parametrize("name", [name for name, info in HEADS.items() if info.fitted])
def test_a_head_is_computed_from_several_labels_some_not_counted(name: str, loss: str) -> None:
    """A stack of one for each setting, the best of which learned."""
    settings = HeadSettings(loss=loss)  # pyright: ignore[reportArgumentType]
    head = HEADS[name].load()(HeadSpec(settings, (6, 5, 5), 3, (0,), 120, multi_label=True))
    assert isinstance(head, FittedHead)
    maps, labels = several(120, missing=True)
    tried = head.fit(Examples(head.prepare(maps), labels), choose=True)
    maps, labels = several(100, missing=False)
    logits = head(head.prepare(maps))
    assert logits.shape == (len(tried), 100, 3)
    assert max(told_apart(scores, labels, loss) for scores in logits) > 0.95
    assert len(tried) > 1
    assert all(len(tensor) in (1, len(tried)) for tensor in head.state_dict().values())


@pytest.mark.parametrize("name", HEADS)
def test_the_entry_says_what_the_class_is(name: str) -> None:
    info = HEADS[name]
    assert info.fitted == issubclass(info.load(), FittedHead)
    assert not info.pooled or "hidden" not in info.reads


def test_the_learning_rate_is_the_head_s_and_the_optimizer_s() -> None:
    assert TrainConfig(head="gmp").resolved().lr == (0.1,)
    assert TrainConfig(head="gmp", optimizer="adam").resolved().lr == (1e-3,)
    assert TrainConfig(head="recurrent-attention").resolved().lr == (1e-3,)
    assert TrainConfig(head="recurrent-attention", optimizer="sgd").resolved().lr == (0.1,)
    assert TrainConfig(head="recurrent-attention", lr=(0.5, 0.25)).resolved().lr == (0.5, 0.25)


class Brightest(Linear):
    """A head that somebody adds: it looks at the brightest cell of each channel."""

    def prepare(self, maps_BVCHW: torch.Tensor) -> torch.Tensor:
        return maps_BVCHW[:, 0].amax((2, 3))


def test_a_new_head_is_a_class_and_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else has to know of it: configurations, sweeps and loading find it in the table."""
    with pytest.raises(ConfigError, match="expected one of linear, fullnet"):
        SweepConfig(head=("brightest",))
    own = HeadInfo(target=f"{__name__}:Brightest", summary="a toy", lr=0.25, batch=9)
    monkeypatch.setitem(HEADS, "brightest", own)
    out = tmp_path / "run"
    settings = {"cache": str(write_cache(tmp_path / "cache")), "out": str(out), "device": "cpu"}
    assert sweep(SweepConfig(head=("brightest",), **settings)) == out  # pyright: ignore[reportArgumentType]
    loaded, data = load_head(out), FeatureCache(tmp_path / "cache" / "train.h5")
    assert (loaded.config.head, loaded.config.lr, loaded.config.batch) == ("brightest", (0.25,), 9)
    scores = loaded.logits(torch.from_numpy(data.take(np.arange(90), view=None)))
    assert (scores.argmax(1).numpy() == data.labels).mean() > 0.95
