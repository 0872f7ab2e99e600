"""What a GPU would be asked to do, without one: tensors on torch's device "meta" have shapes but no numbers.

Whatever mixes devices or waits for a number is refused. What a GPU makes of it, this can't show.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toy import write_cache, write_multilabel_cache
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.heads import HEADS
from pipeline.heads.base import Head, HeadSpec
from pipeline.maps.batches import MapsInMemory, place_maps
from pipeline.maps.parts import Part
from pipeline.maps.source import Normaliser, Source
from pipeline.training.optimizer import make_optimizer
from pipeline.training.step import make_step
from pipeline.trunks.alexnet_cifar import untrained
from pipeline.trunks.prepare import PreparedTrunk

META = torch.device("meta")
WITHOUT_A_META_FORM = {torch.ops.aten._fused_sgd_.tensor_lr, torch.ops.aten._fused_adamw_.tensor_lr}
GET_ITEM = Tensor.__getitem__
TRAINED = [name for name, info in HEADS.items() if not info.fitted]


class OneDevice(TorchDispatchMode):
    """Refuses operators on tensors of another device than "meta". Copies to it are counted instead."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = None if func in WITHOUT_A_META_FORM else func(*args, **(kwargs or {}))
        devices = {x.device for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        if devices == {torch.device("cpu")} and isinstance(result, Tensor) and result.device == META:
            self.uploads += 1
        elif devices - {META} and func != torch.ops.aten.lift_fresh.default:  # of an array, by from_numpy
            raise AssertionError(f"{func} on {devices}")
        return result


def head_and_source(folder: Path, settings: TrainConfig) -> tuple[Head, Source]:
    cache = FeatureCache(folder / "train.h5")
    _, _, channels, height, width = cache.shape
    spec = HeadSpec(settings, (channels, height, width), 3, (0, 1), len(cache), cache.labels.ndim > 1)
    head, normaliser = HEADS[settings.head].load()(spec).to(META), Normaliser(channels).to(META)
    return head, Source(cache, head.views, head.prepare, normaliser, torch.bfloat16, META, verify=True)


def refuse_upload(*args: Any, **kwargs: Any) -> Tensor:
    raise AssertionError("a number was uploaded, for which a GPU that records a step would stop")


def refuse_lists(self: Tensor, index: Any) -> Tensor:
    """Index a tensor, but not by a list, which a GPU gets by an upload and "meta" without one."""
    if any(isinstance(part, list) for part in (index if isinstance(index, tuple) else (index,))):
        refuse_upload()
    return GET_ITEM(self, index)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("crops", ["ten", "full"])
@pytest.mark.parametrize("write", [write_cache, write_multilabel_cache])
@pytest.mark.parametrize("name", TRAINED)
def test_epochs_stay_on_their_device_and_only_their_order_is_uploaded(
    tmp_path: Path, name: str, write: Any, crops: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainConfig(head=name, crops=crops, hidden=(8,), dropout=0.0)
    head, source = head_and_source(write(tmp_path, 40), settings)
    cache = source.cache
    maps = place_maps(
        source, Part(np.arange(len(cache)), cache.labels), 1, "maps", {"meta": 1 << 30, "cpu": 0}
    )
    assert isinstance(maps, MapsInMemory)
    optimizer = make_optimizer(kind, dict(head.named_parameters()), [0.1, 0.2], [1e-3, 0.0])
    memory, factor = maps.new_batch(16), torch.zeros((), device=META)
    step = make_step(head, optimizer, memory)
    monkeypatch.setattr(torch, "tensor", refuse_upload)  # which "meta" does without a copy
    monkeypatch.setattr(Tensor, "__getitem__", refuse_lists)
    with OneDevice() as mode:
        for batch in maps.shuffled(memory, np.random.default_rng(0)):
            assert step(batch, factor).shape == (2,)
    assert mode.uploads == 2  # the order of the images, and of their examples


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_prepared_trunk_stays_on_its_device(precision: str) -> None:
    trunk = PreparedTrunk(untrained(), META, precision)
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device=META)
    with OneDevice():
        maps = trunk(images)
    assert (maps.shape, maps.dtype) == ((2, 256, 5, 5), getattr(torch, precision))
