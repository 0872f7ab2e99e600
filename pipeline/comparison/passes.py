"""Which layers come out of one pass: those of one network, in the order in which they were named."""

import dataclasses
from pathlib import Path

from pipeline.config import CompareTrunksConfig, ExtractConfig
from pipeline.errors import ConfigError
from pipeline.trunks import SOURCES, load_trunk
from pipeline.trunks.spec import TrunkSpec, parse
from pipeline.wording import slug

WHOLE = ""
"""The layer that is meant where none is named."""


@dataclasses.dataclass(frozen=True)
class Pass:
    """One network over all images: a cache for each of its layers."""

    extraction: ExtractConfig
    specs: tuple[str, ...]
    """What names each cache's maps, as --trunk takes it."""
    caches: tuple[Path, ...]


def passes(config: CompareTrunksConfig) -> list[Pass]:
    """The passes that a comparison takes. Raises: ConfigError when a layer is named twice, WeightsError."""
    layers: dict[str, list[str]] = {}
    for spec in (parse(text, SOURCES) for text in config.trunk):
        layers.setdefault(spec.name, []).extend(spec.layers or (WHOLE,))
    return [_pass(config, name, group) for name in layers for group in _groups(config, name, layers[name])]


def _groups(config: CompareTrunksConfig, name: str, layers: list[str]) -> list[list[str]]:
    """The layers of a network that come out of one pass: all of them, the default one by its name; where that
    has none, it is the whole network, which takes a pass of its own."""
    if len(layers) > 1 and WHOLE in layers:
        default = load_trunk(name, **config.transform).facts.get("layer", WHOLE)
        layers = [layer or default for layer in layers]
    if twice := next((layer for layer in layers if layers.count(layer) > 1), None):
        raise ConfigError(f"--trunk: {name}: its layer {twice} is named twice; leave one of them out")
    named = [layer for layer in layers if layer != WHOLE]
    return ([named] if named else []) + ([[]] if WHOLE in layers else [])


def _pass(config: CompareTrunksConfig, name: str, layers: list[str]) -> Pass:
    spec = parse(name, SOURCES)
    extraction = ExtractConfig(
        dataset=config.dataset,
        trunk=f"{name}@{','.join(layers)}" if layers else name,
        cache=str(config.out_dir / "caches" / _folder(spec, layers)),
        label_separator=config.label_separator,
        label_column=config.label_column,
        test_fraction=config.test_fraction,
        split_seed=config.split_seed,
        device=config.device,
        decoders=config.decoders,
        **config.transform,
    )
    specs = tuple(f"{name}@{layer}" for layer in layers) or (name,)
    return Pass(extraction, specs, extraction.cache_dirs)


def _folder(spec: TrunkSpec, layers: list[str]) -> str:
    own = Path(spec.model).name if spec.source == "own" else spec.model
    return slug(spec.source, own, *(layers if len(layers) == 1 else ()))
