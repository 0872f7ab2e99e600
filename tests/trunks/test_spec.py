"""The grammar of --trunk: its parts, what is refused, and the nearest name."""

import pytest

from pipeline.config import ExtractConfig
from pipeline.errors import ConfigError
from pipeline.trunks import SOURCES
from pipeline.trunks.spec import TrunkSpec, parse

PARTS = {
    "alexnet-cifar": ("", "alexnet-cifar", ()),
    "efficientnet-lite0@blocks.4": ("", "efficientnet-lite0", ("blocks.4",)),
    "timm:resnet18.a1_in1k@layer2,layer3": ("timm", "resnet18.a1_in1k", ("layer2", "layer3")),
    "transformers:facebook/dinov2-small@?": ("transformers", "facebook/dinov2-small", ("?",)),
    "transformers:./a b@encoder": ("transformers", "./a b", ("encoder",)),
    "../me@home/nets.py:trunk@body.1": ("own", "../me@home/nets.py:trunk", ("body.1",)),
    "package.module:trunk": ("own", "package.module:trunk", ()),
    "timm:resnet18@": ("timm", "resnet18", ("",)),
}


@pytest.mark.parametrize("text", PARTS)
def test_a_specification_comes_apart_into_source_model_and_layers(text: str) -> None:
    assert parse(text, SOURCES) == TrunkSpec(*PARTS[text])


REFUSED = {
    "timm:": "expected the name of a model after timm:",
    "timm:resnet18@": "expected names of layers after the @, each once",
    "timm:resnet18@a,a": "expected names of layers after the @, each once",
    "efficientnet-lite1": "did you mean efficientnet-lite0?",
    "tim:resnet18": "did you mean timm?",
    "nets.py:": "expected one of .*PATH.py:FUNCTION",
    "os:pa th": "expected one of .*MODULE:FUNCTION",
    "": "expected one of ",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_specification_is_refused_with_the_forms_or_the_nearest_name(text: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[text].replace("?", r"\?")):
        ExtractConfig(trunk=text)


FOLDERS = {
    "timm:vit_tiny_patch16_224@blocks.3": "digits-timm-vit_tiny_patch16_224-blocks.3-plain",
    "timm:resnet18@layer2,layer3": "digits-timm-resnet18-plain",
    "transformers:facebook/dinov2-small": "digits-transformers-dinov2-small-plain",
    "/home/me/nets.py:trunk": "digits-nets.py-trunk-plain",
    "vgg16": "digits-vgg16-plain",
}


@pytest.mark.parametrize("text", FOLDERS)
def test_a_cache_s_folder_is_named_after_it(text: str) -> None:
    assert ExtractConfig(trunk=text).cache_dir.name == FOLDERS[text]


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert parse("~/nets.py:trunk", SOURCES).model == "/home/me/nets.py:trunk"
    assert parse("transformers:~/dino@encoder", SOURCES).model == "/home/me/dino"
