"""What `--trunk` may say, and its parts: `NAME[@LAYER,...]` or `SOURCE:MODEL[@LAYER,...]`. No torch.

    efficientnet-lite0                     a short name
    timm:resnet18@layer2,layer3            a library's model, and layers of it
    models/mine.py:trunk                   a function in a file, or in a module: package.module:trunk

A layer is the last name after an @; `?` asks which layers there are.
"""

import dataclasses
import os
import re
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.checks import OneOf
from pipeline.wording import did_you_mean, short

ASK = ("?",)


@dataclasses.dataclass(frozen=True)
class TrunkSpec:
    """A specification in parts."""

    source: str
    """A library's name, or `own`; empty where the model is a short name."""
    model: str
    layers: tuple[str, ...]
    """Names of layers; `ASK` to list them; empty for the default."""

    @property
    def name(self) -> str:
        """The specification without its layers."""
        return f"{self.source}:{self.model}" if self.source not in ("", "own") else self.model


@dataclasses.dataclass(frozen=True, eq=False)
class TrunkNames(OneOf):
    """The rule of a configuration's field that holds a specification: a short name, or another form."""

    sources: Collection[str] = ()
    """The libraries."""

    def __contains__(self, value: str) -> bool:
        return not self._problem(parse(value, self.sources))

    def refusal(self, value: Any) -> str:
        """What is wrong with the form of a specification."""
        problem = self._problem(parse(value, self.sources)) if isinstance(value, str) else ""
        return f"{problem or f'expected {self}'}, found {short(value)}" + self._near(value)

    def _problem(self, spec: TrunkSpec) -> str:
        if "" in spec.layers or len(set(spec.layers)) < len(spec.layers):
            return "expected names of layers after the @, each once"
        if spec.source in self.sources:
            return "" if spec.model else f"expected the name of a model after {spec.source}:"
        is_known = _is_code(spec.model) if spec.source else spec.model in self.choices
        return "" if is_known else f"expected {self}"

    def _near(self, value: Any) -> str:
        name = re.split("[:@]", str(value))[0]
        return (
            ""
            if name in (*self.choices, *self.sources)
            else did_you_mean(name, [*self.choices, *self.sources])
        )

    def __str__(self) -> str:
        forms = (*(f"{source}:MODEL" for source in self.sources), "PATH.py:FUNCTION", "MODULE:FUNCTION")
        return f"one of {', '.join([*self.choices, *forms])}, with @LAYER if you like"


def _is_code(model: str) -> bool:
    """Whether this is a function in a file, or in a module that there is."""
    place, _, function = model.rpartition(":")
    package = place.partition(".")[0]
    is_there = place.endswith(".py") or Path(package).is_dir() or Path(f"{package}.py").exists()
    return function.isidentifier() and (is_there or bool(package and find_spec(package)))


def parse(text: str, sources: Collection[str]) -> TrunkSpec:
    """Take a specification apart; its form isn't checked."""
    source, colon, model = text.partition(":")
    if colon and source not in sources:
        source, model = "own", text
    elif not colon:
        source, model = "", text
    # a file's name may have an @ too: only what follows the function's name is a layer
    place = model.find("@", model.rfind(":") + 1 if source == "own" else 0)
    model, layers = (model, None) if place < 0 else (model[:place], model[place + 1 :])
    model = os.path.expanduser(model)
    return TrunkSpec(source, model, () if layers is None else tuple(layers.split(",")))
