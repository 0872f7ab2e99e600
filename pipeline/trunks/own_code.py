"""`PATH.py:FUNCTION[@LAYER]` and `MODULE:FUNCTION[@LAYER]`: your code gives an nn.Module or a Trunk.

A module maps normalised images (B, 3, S, S) to maps (B, C, H, W), or has layers that do. It may carry its
input as attributes `image_px`, `mean` and `std`; a Trunk says all of it.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.errors import ConfigError, WeightsError
from pipeline.images.transform import Transform
from pipeline.trunks.base import Trunk
from pipeline.trunks.network import Network
from pipeline.trunks.outputs import prefix_tokens_of
from pipeline.wording import did_you_mean

IMAGE_PX, MEAN, STD = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What a module without these attributes takes: ImageNet's, as most do."""


def open_model(model: str, pretrained: bool, image_px: int | None) -> Network | Trunk:
    """What a function gives that is called without arguments. See `Opened`."""
    place, _, name = model.rpartition(":")
    function, digest = _function(place, name)
    try:
        made = function()
    except Exception as error:  # whatever the code does
        raise ConfigError(
            f"--trunk: {model} raised {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        ) from error
    facts = {"code": digest}
    if isinstance(made, Trunk):
        return Trunk(model, made.version, made.module, made.transform, made.weights_sha256, facts)
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"--trunk: {model} gave a {type(made).__name__}; expected a torch.nn.Module or a "
            "pipeline.trunks.base.Trunk"
        )
    given = {key: getattr(made, key, None) for key in ("image_px", "mean", "std")}
    transform = Transform(
        image_px=int(given["image_px"] or IMAGE_PX),
        mean=_three(given["mean"], MEAN),
        std=_three(given["std"], STD),
    )
    made.eval()
    return Network(module=made, transform=transform, facts=facts, prefix_tokens=prefix_tokens_of(made))


def refuse_other_code(model: str, digest: Any) -> None:
    """Compare the code's file with the one that made some features, before anything in it is executed.

    Raises: WeightsError.
    """
    file = place = model.rpartition(":")[0]
    if not place.endswith(".py"):
        sys.path.insert(0, os.getcwd())
        try:
            spec = importlib.util.find_spec(place)
        finally:
            sys.path.pop(0)
        file = str(spec and spec.origin)
    elif not Path(file).exists():
        return  # there is nothing to execute, as loading it will say
    found = _digest(file) if Path(file).is_file() else "no file"
    if found != digest:
        raise WeightsError(
            f"trunk {model}: not the one that made the features: trunk.code is {str(digest)[:12]}, found "
            f"{found[:12]}; say with --trunk where that code is now"
        )


def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _function(place: str, name: str) -> tuple[Callable[[], Any], str]:
    """The function, and the SHA-256 of the file it is in."""
    module = _from_file(Path(place)) if place.endswith(".py") else _imported(place)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(f"--trunk: {place} has no function {name!r}{did_you_mean(name, known)}")
    file = getattr(module, "__file__", None)
    return function, _digest(file) if file else ""


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"--trunk: {path}: no such file; expected PATH.py:FUNCTION")
    folder = str(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--trunk: {path}: can't be imported; expected a file of Python code")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)  # it may import its neighbours
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the code does
        raise ConfigError(f"--trunk: {path}: can't be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return module


def _imported(name: str) -> Any:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"--trunk: {name}: can't be imported ({error}); expected MODULE:FUNCTION, PATH.py:FUNCTION, or a "
            "name that --help lists"
        ) from error
    finally:
        sys.path.pop(0)


def _three(values: Any, default: tuple[float, float, float]) -> tuple[float, float, float]:
    if values is None:
        return default
    red, green, blue = map(float, values)
    return red, green, blue
