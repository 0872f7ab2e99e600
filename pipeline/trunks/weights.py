"""Read files of weights, .safetensors or .pth: nothing that a file says is executed."""

import contextlib
import hashlib
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.errors import WeightsError, cant_open
from pipeline.trunks.checkpoints import state_dict_in, without_prefix


def load_weights(
    module: nn.Module,
    path: Path,
    used: Collection[str] | None = None,
    rename: bool = False,
    convert: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]] | None = None,
) -> str:
    """Fill a module with the weights in a .safetensors or .pth file, and give their SHA-256.

    The digest covers names, shapes and float32 values, so it does not depend on the file's format. A .pth
    file is read with weights_only=True: nothing in it is executed.

    used: the only weights that have to be there, and are filled in; None means all.
    rename: also take weights of other names, if their order and shapes are the module's.
    convert: see `Network`.

    Raises: WeightsError when the file is missing, damaged, hostile, or does not fit the module.
    """
    tensors = {name: t for name, t in read_weights(path).items() if t.is_floating_point()}
    expected = {name: t for name, t in module.state_dict().items() if t.is_floating_point()}  # no counters
    if rename and [t.shape for t in tensors.values()] == [t.shape for t in expected.values()]:
        tensors = dict(zip(expected, tensors.values(), strict=True))
    needed = expected.keys() if used is None else expected.keys() & set(used)
    tensors = without_prefix(tensors, needed, path)
    if convert:
        with contextlib.suppress(Exception):  # over another network's weights, which are refused below
            tensors = {name: t for name, t in convert(tensors).items() if t.is_floating_point()}
    for name in sorted(expected.keys() | tensors.keys()):
        if name in expected and name not in needed:
            continue  # of a classifier, say, that has other classes
        found = f"{tuple(tensors[name].shape)}" if name in tensors else "nothing"
        wanted = f"{tuple(expected[name].shape)}" if name in expected else "nothing"
        if found != wanted:
            raise WeightsError(
                f"{path}: the weights of another network: expected {wanted} at {name!r}, found {found}; "
                "give the weights of this trunk with --weights, or leave --weights out"
            )
        if not tensors[name].isfinite().all():
            raise WeightsError(f"{path}: {name!r} has values that are not finite; train or download it again")
    module.load_state_dict({name: tensors[name] for name in needed}, strict=False)
    return weights_digest(module, used)


def weights_digest(module: nn.Module, used: Collection[str] | None = None) -> str:
    """SHA-256 over a module's named parameters and buffers, as float32; over those used alone, if given."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not tensor.is_floating_point() or (used is not None and name not in used):
            continue
        values = tensor.detach().float().cpu().contiguous()
        digest.update(f"{name}{tuple(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a .safetensors or .pth file, by name. Raises: WeightsError as `load_weights`."""
    if not path.is_file():
        found = "expected a file of weights, found a folder" if path.is_dir() else "no such file"
        raise WeightsError(f"{path}: {found}; check --weights")
    try:
        path.open("rb").close()  # for safetensors, a file that may not be read isn't there
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # about the pickle's protocol; what can't be read is refused below
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise WeightsError(cant_open(path, error)) from error
    except Exception as error:  # both loaders check little, and stumble in many ways over damaged files
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if objects := re.search(r"GLOBAL ([\w.]+)", str(error)):
            reason = f"holds a {objects[1]}, and making one may execute anything"
        raise WeightsError(
            f"{path}: not a readable file of weights ({reason}); expected .safetensors, or a .pth that holds "
            "nothing but tensors: save network.state_dict()"
        ) from error
    return state_dict_in(tensors, path)
