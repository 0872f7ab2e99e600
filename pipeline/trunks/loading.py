"""From a specification to trunks: open the network, find the layers, fill in the weights, drop the rest."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import ConfigError, WeightsError, out_of_memory
from pipeline.trunks.base import Trunk
from pipeline.trunks.layers import Layer, UpTo, default_layer, drop_unused, layers_of
from pipeline.trunks.network import Network
from pipeline.trunks.spec import TrunkSpec
from pipeline.trunks.weights import load_weights, weights_digest
from pipeline.wording import did_you_mean, some

RANDOM = "none"
"""What --weights says for random weights."""
SEED = 0
Opener = Callable[[bool, int | None], Network | Trunk]
"""(with its published weights?, the images' side or None) → what the specification names."""


def load_trunks(
    spec: TrunkSpec, open_it: Opener, weights: str | Path | None, changes: Mapping[str, Any]
) -> tuple[Trunk, ...]:
    """A trunk for each layer, or for the default one; they share one network.

    weights: a file, None for the published ones, or `RANDOM`.
    changes: fields of the transform that were given.

    Raises: ConfigError, WeightsError.
    """
    opened = _open(open_it, weights, None)
    if isinstance(opened, Trunk) and not spec.layers:
        return (_changed(opened, weights, changes),)
    network, layers = _look(spec, open_it, opened, weights, changes)
    if not spec.layers and network.layer is None:
        network = dataclasses.replace(network, layer=_default(spec, _as_network(opened), network, layers))
    chosen = [_find(spec, network, layers, name) for name in spec.layers or (None,)]
    used = frozenset[str]().union(*(layer.used for layer in chosen))
    if weights is not None and weights != RANDOM:
        load_weights(network.module, Path(weights), used, network.rename, network.convert)
    elif random := sorted(network.unfilled & used):
        raise WeightsError(
            f"--trunk: {spec.name}: its files have no weights for {some(random, 3)}; fetch it again, or give "
            "--weights"
        )
    digests = [weights_digest(network.module, layer.used) for layer in chosen]
    drop_unused(network.module, used)
    facts = {**network.facts, **({"random_seed": SEED} if weights == RANDOM else {})}
    return tuple(
        Trunk(
            name=spec.name,
            version=network.version,
            module=UpTo(network.module, (layer.name,), network.prefix_tokens).eval(),
            transform=network.transform,
            weights_sha256=digest,
            facts={**facts, "layer": layer.name},
        )
        for layer, digest in zip(chosen, digests, strict=True)
    )


def layer_table(spec: TrunkSpec, open_it: Opener, changes: Mapping[str, Any]) -> list[Layer]:
    """Every layer of a network that gives maps. Raises: ConfigError."""
    return _look(spec, open_it, _open(open_it, RANDOM, None), RANDOM, changes)[1]


def joint(trunks: tuple[Trunk, ...]) -> nn.Module:
    """A module that gives the maps of all these trunks of one network, in one run: images → a tuple."""
    taps = [trunk.module for trunk in trunks]
    if not all(isinstance(tap, UpTo) for tap in taps):
        raise ValueError("expected trunks of one network, found others")
    first: Any = taps[0]
    names = tuple(name for tap in taps for name in tap.layers)  # pyright: ignore[reportGeneralTypeIssues]
    return UpTo(first.network, names, first.prefix_tokens).eval()


def _open(open_it: Opener, weights: str | Path | None, image_px: int | None) -> Network | Trunk:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        return open_it(weights is None, image_px)


def _changed(trunk: Trunk, weights: str | Path | None, changes: Mapping[str, Any]) -> Trunk:
    return dataclasses.replace(trunk, transform=dataclasses.replace(trunk.transform, **changes))


def _look(
    spec: TrunkSpec, open_it: Opener, opened: Network | Trunk, weights: Any, changes: Mapping[str, Any]
) -> tuple[Network, list[Layer]]:
    """The network, made for the images' side where that differs from its own, and its layers."""
    network = _as_network(opened)
    transform = dataclasses.replace(network.transform, **changes)
    side = transform.image_px
    try:
        layers = layers_of(network.module, side, network.prefix_tokens)
    except Exception as error:  # whatever a network does
        if out_of_memory(error):
            raise
        if side == network.transform.image_px:
            raise ConfigError(
                f"--trunk: {spec.name} can't take an image of {side} pixels: {type(error).__name__}: "
                f"{(str(error).splitlines() or [''])[0]}"
            ) from error
        try:  # a model of fixed side may be had for another
            network = _as_network(_open(open_it, weights, side))
            layers = layers_of(network.module, side, network.prefix_tokens)
        except Exception as again:
            if out_of_memory(again):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"--image-px: {spec.name} takes no images of {side} pixels ({reason}); "
                f"its own side is {network.transform.image_px}"
            ) from again
    return dataclasses.replace(network, transform=transform), layers


def _as_network(opened: Network | Trunk) -> Network:
    if isinstance(opened, Network):
        return opened
    return Network(
        module=opened.module, transform=opened.transform, facts=opened.facts, version=opened.version
    )


def _default(spec: TrunkSpec, own: Network, network: Network, layers: list[Layer]) -> str:
    """The default layer's name, which depends on the model alone: it is found at the model's own side."""
    if own.transform.image_px != network.transform.image_px:
        layers = layers_of(own.module, own.transform.image_px, own.prefix_tokens)
    found = default_layer(layers, own.classifier)
    if found is None:
        raise ConfigError(
            f"--trunk: {spec.name} has no layer that gives a map (channels × rows × columns); "
            "expected a convolutional network or a transformer of patches"
        )
    return found.name


def _find(spec: TrunkSpec, network: Network, layers: list[Layer], name: str | None) -> Layer:
    name = network.layer if name is None else name
    if name is None:
        raise ValueError("expected a layer's name, or a network with a default one")
    known = {layer.name: layer for layer in layers}
    if name in known:
        return known[name]
    exists = name in dict(network.module.named_modules())
    problem = "gives no map, or runs several times" if exists else "is none of its layers"
    names = [n for n in known if n]
    near = did_you_mean(name, names)
    raise ConfigError(
        f"--trunk: {spec.name}: {name!r} {problem}{near or f'; such as {some(names[-3:])}'}; "
        f"{spec.name}@? lists them all"
    )
