"""`timm:MODEL[@LAYER]`: the models of timm, with its weights from the Hugging Face hub."""

import sys
from typing import Any

from torch import nn

from pipeline.errors import ConfigError, WeightsError, needs_extra
from pipeline.images.transform import Transform
from pipeline.trunks.hub import reachable
from pipeline.trunks.network import Convert, Network
from pipeline.wording import did_you_mean


def open_model(model: str, pretrained: bool, image_px: int | None) -> Network:
    """A model as `timm.create_model` names it, such as `resnet18` or `resnet18.a1_in1k`. See `Opened`."""
    with needs_extra(f"--trunk timm:{model}", "timm"):
        import timm
    known = timm.list_models()
    name, _, tag = model.partition(".")
    if name not in known:
        raise ConfigError(f"--trunk: timm has no model {name!r}{did_you_mean(name, known)}")
    tags = [found.partition(".")[2] for found in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise ConfigError(
            f"--trunk: timm:{name} has no weights {tag!r}; expected one of {', '.join(tags) or 'none'}"
        )
    size: dict[str, Any] = {"img_size": image_px} if image_px else {}
    if pretrained and not tags:
        raise WeightsError(
            f"--trunk timm:{model}: timm publishes no weights of it; give --weights FILE, or none"
        )
    module = _pretrained(model, size) if pretrained else timm.create_model(model, **size)
    return Network(
        module=module.eval(),
        transform=_transform(module),
        facts={"library": f"timm {timm.__version__}"},
        prefix_tokens=getattr(module, "num_prefix_tokens", 0),
        classifier=_classifier(module),
        convert=_convert(module),
    )


def _convert(module: nn.Module) -> Convert | None:
    """What timm does to a file's weights: names of other programs, a grid of positions of another size."""
    by_name = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    return by_name and (lambda tensors: by_name(tensors, module))


def _pretrained(model: str, size: dict[str, Any]) -> nn.Module:
    import timm

    config = timm.get_pretrained_cfg(model)
    repository = getattr(config, "hf_hub_id", None)
    url = f"https://huggingface.co/{repository}/resolve/main/model.safetensors"
    with reachable(url, repository, ("model.safetensors", "pytorch_model.bin")):
        return timm.create_model(model, pretrained=True, **size)


def _transform(module: nn.Module) -> Transform:
    from timm.data.config import resolve_model_data_config

    config: Any = resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    if (channels, height) != (3, width):
        raise ConfigError(
            f"--trunk: expected a model of square colour images, found one of {channels}×{height}×{width}"
        )
    share = height / int(height / config["crop_pct"]) if config["crop_pct"] < 1 else 1.0
    return Transform(
        image_px=height,
        resize="squash" if config["crop_mode"] == "squash" else "shorter-side-then-center-crop",
        crop_share=round(share, 4),
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )


def _classifier(module: Any) -> tuple[str, ...]:
    """Names of the modules of a head, of which timm names the last: `head` of `head.fc`."""
    last = module.pretrained_cfg.get("classifier") or ()
    names = (last,) if isinstance(last, str) else last
    heads = {name.partition(".")[0] for name in names} | {"global_pool", "head", "head_drop", "fc_norm"}
    return tuple(sorted(heads))
