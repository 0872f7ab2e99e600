"""What a GPU would be asked to do, without one: tensors on torch's device "meta" have shapes but no numbers.

Whatever mixes devices or waits for a number is refused. What a GPU makes of it, this can't show.
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
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
from pipeline.config import PretrainConfig, TrainConfig
from pipeline.heads import HEADS
from pipeline.heads.base import Head, HeadSpec
from pipeline.maps.batches import MapsInMemory, place_maps
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.parts import Part
from pipeline.maps.source import Source
from pipeline.pretraining.loop import PretrainingLoop
from pipeline.pretraining.network import Network as PretrainedNetwork
from pipeline.training.optimizer import make_optimizer
from pipeline.training.step import make_step
from pipeline.trunks.alexnet_cifar import untrained
from pipeline.trunks.prepare import PreparedTrunk

META = torch.device("meta")
WITHOUT_A_META_FORM = {torch.ops.aten._fused_sgd_.tensor_lr, torch.ops.aten._fused_adamw_.tensor_lr}
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


@contextmanager
def recording() -> Iterator[OneDevice]:
    """Uploads that "meta" does without a copy are refused, too: numbers, and lists as indices."""
    with pytest.MonkeyPatch.context() as patch, OneDevice() as mode:
        for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (Tensor, "new_tensor")):
            patch.setattr(owner, name, refuse_upload)
        for name in ("__getitem__", "__setitem__"):
            works = getattr(Tensor, name)

            def index(self: Tensor, index: Any, *value: Any, works: Any = works) -> Any:
                if any(isinstance(part, list) for part in (index if isinstance(index, tuple) else (index,))):
                    refuse_upload()
                return works(self, index, *value)

            patch.setattr(Tensor, name, index)
        yield mode


FORBIDDEN: dict[str, Any] = {
    "a list as index": lambda x: x[[0, 1]],
    "a list as index among others": lambda x: x[0, [0, 1]],
    "a list as index of what is set": lambda x: x.__setitem__([0, 1], 0.0),
    "an array as index": lambda x: x[np.array([0, 1])],
    "numbers of Python": lambda x: x * torch.tensor([1.0, 2.0, 3.0], device=META),
    "numbers of Python for a like tensor": lambda x: x * x.new_tensor([1.0, 2.0, 3.0]),
    "numbers of Python as a tensor": lambda x: x * torch.as_tensor([1.0, 2.0, 3.0], device=META),
    "numbers of numpy": lambda x: x * torch.from_numpy(np.ones(3, np.float32)).to(META),
    "a number in RAM": lambda x: x * torch.ones(()),
    "a number for Python": lambda x: x.sum().item(),
    "a decision of Python": lambda x: bool(x.sum() > 0),
    "a copy in RAM": lambda x: x.cpu(),
    "places of a condition": lambda x: x.nonzero(),
    "a mask as index": lambda x: x[x > 0],
    "a size that depends on numbers": lambda x: x.unique(),
}
"""What no step may do that a GPU records."""


@pytest.mark.parametrize("forbidden", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_cannot_be_recorded_is_seen_without_a_gpu(forbidden: Any) -> None:
    x = torch.zeros(4, 3, device=META)
    with contextlib.suppress(AssertionError, RuntimeError), recording() as mode:  # of these rules, or torch's
        forbidden(x)
        assert not mode.uploads
        pytest.fail("nothing was seen")


@pytest.mark.no_cover
@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("crops", ["ten", "full"])
@pytest.mark.parametrize("write", [write_cache, write_multilabel_cache])
@pytest.mark.parametrize("name", TRAINED)
def test_epochs_stay_on_their_device_and_only_their_order_is_uploaded(
    tmp_path: Path, name: str, write: Any, crops: Any, kind: str
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
    with recording() as mode:
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


def test_pretraining_uploads_what_an_epoch_draws_and_nothing_else() -> None:
    config = PretrainConfig(batch=4, precision="float32", mirror_maps=True)
    network = PretrainedNetwork(untrained((4, 6, 8), 2), 3, 5, config.mirror_maps).to(META)
    images, labels = torch.zeros(11, 3, 32, 32, dtype=torch.uint8), torch.zeros(11, dtype=torch.int64)
    loop = PretrainingLoop(network, config, images, labels, np.arange(11))
    seen = list[int]()
    with recording() as mode:
        assert loop._pass_over(0, seen.append).device == META
    assert seen == [4, 4, 3]
    assert mode.uploads == 1
