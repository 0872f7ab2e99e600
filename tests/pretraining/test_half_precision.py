"""A step in half precision learns what one in float32 does; its scale is resumed; rates of batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.pretraining import dark_and_light, settings
from torch import Tensor

from pipeline.errors import RunError
from pipeline.pretraining.loop import PretrainingLoop
from pipeline.pretraining.network import Network
from pipeline.pretraining.stage import pretrain
from pipeline.runs.tensors import read_tensors, write_tensors
from pipeline.trunks.alexnet_cifar import untrained

EPOCHS = 2


def loop(**other: Any) -> PretrainingLoop:
    """Of classes that differ in brightness; the last batch is a short one."""
    torch.manual_seed(0)
    network = Network(untrained((8, 12, 16), 2), classes=2, hidden=8)
    labels = torch.arange(44) % 2
    noise = torch.randint(128, (44, 3, 32, 32), dtype=torch.uint8)
    fields = {"epochs": EPOCHS, "batch": 8, "lr": 0.05, **other}
    config = settings(Path(), Path(), **fields)
    return PretrainingLoop(
        network, config, noise + 128 * labels.byte()[:, None, None, None], labels, np.arange(44)
    )


def weights(of: PretrainingLoop) -> Tensor:
    return torch.cat([p.detach().flatten() for p in of.network.parameters()])


def scaled(of: PretrainingLoop, scale: float) -> PretrainingLoop:
    of.step.scaler.load_state_dict(of.step.scaler.state_dict() | {"scale": scale})
    return of


def test_float16_learns_what_float32_does() -> None:
    losses, moved = {}, {}
    for name, trained in (("whole", loop()), ("half", scaled(loop(precision="float16"), 2.0**10))):
        before = weights(trained)
        losses[name] = [trained.epoch(epoch)["loss"] for epoch in range(EPOCHS)]
        moved[name] = weights(trained) - before
    assert losses["half"] == pytest.approx(losses["whole"], rel=0.02)
    assert losses["half"] != losses["whole"]
    assert losses["half"][-1] < 0.8 * losses["half"][0]
    assert torch.cosine_similarity(moved["half"], moved["whole"], dim=0) > 0.98


def test_a_gradient_that_overflows_changes_nothing_but_the_scale() -> None:
    trained = loop(precision="float16")
    trained.network.train()
    inputs, labels = next(trained.batches.epoch(0))
    scaled(trained, 2.0**40)
    before = weights(trained)
    trained.step(inputs, labels, 1.0)
    assert torch.equal(weights(trained), before)
    assert trained.step.scaler.get_scale() == 2.0**39
    scaled(trained, 2.0**8)
    trained.step(inputs, labels, 1.0)
    assert not torch.equal(weights(trained), before)


def test_a_continued_run_in_float16_goes_on_with_its_scale(tmp_path: Path) -> None:
    whole, path = scaled(loop(precision="float16"), 2.0**30), tmp_path / "checkpoint.safetensors"
    whole.epoch(0)
    assert whole.step.scaler.get_scale() < 2.0**30
    whole.save(path, 1)
    resumed = loop(precision="float16")
    assert resumed.resume(path) == 1
    assert resumed.step.scaler.state_dict() == whole.step.scaler.state_dict()
    assert resumed.epoch(1)["loss"] == whole.epoch(1)["loss"]
    assert torch.equal(weights(resumed), weights(whole))
    tensors, facts = read_tensors(path)
    assert set(facts) == {"epoch", "scaler"}
    for scaler in (None, [], {}, {**facts["scaler"], "scale": "x"}):
        write_tensors(path, tensors, {"epoch": 1, "scaler": scaler})
        with pytest.raises(RunError, match=r"checkpoint\.safetensors: no checkpoint of this run"):
            resumed.resume(path)


def test_the_peak_rate_grows_with_the_batch_and_is_what_a_run_is_known_by(tmp_path: Path) -> None:
    assert [settings(Path(), Path(), batch=n, lr=None).peak_lr for n in (64, 512)] == [0.05, 0.4]
    assert settings(Path(), Path(), batch=512, lr=0.3).peak_lr == 0.3
    images, small = dark_and_light(tmp_path / "images"), {"epochs": 1, "widths": (4, 6, 8)}
    pretrain(settings(images, tmp_path / "out", lr=None, **small))
    pretrain(settings(images, tmp_path / "out", lr=0.0125, **small))  # of batches of 16: up to date
    with pytest.raises(RunError, match=r"made with --lr 0\.0125, not 0\.02; give another --out"):
        pretrain(settings(images, tmp_path / "out", lr=0.02, **small))


@pytest.mark.faults
def test_a_compiled_step_learns_the_same_and_without_a_compiler_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch._inductor import config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with inductor.patch({"cpp.cxx": (None, str(tmp_path / "g++"))}):
        without = loop(compile=True)
    said = capsys.readouterr().out
    assert said.startswith("--compile: nothing compiles for cpu here (")
    assert said.endswith("); training without\n")
    assert said.count("\n") == 1
    torch._dynamo.reset()
    expected = without.epoch(0)["loss"]
    assert loop().epoch(0)["loss"] == expected
    called = list[int]()
    trained = loop(compile=True)
    fast = trained.step._fast
    monkeypatch.setattr(trained.step, "_fast", lambda *args: (called.append(len(args[1])), fast(*args))[1])
    assert trained.epoch(0)["loss"] == pytest.approx(expected, rel=1e-4)
    assert called == [8] * 5
    assert capsys.readouterr().out == ""
