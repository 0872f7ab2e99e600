"""`transformers:NAME[@LAYER]`: vision models of Hugging Face, by a name on the hub or a folder."""

from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from pipeline.errors import ConfigError, WeightsError, needs_extra
from pipeline.images.transform import Transform
from pipeline.trunks.hub import reachable
from pipeline.trunks.network import Network

FILES = "model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"


def open_model(model: str, pretrained: bool, image_px: int | None) -> Network:
    """The model, without a head, that `AutoModel` makes of a name on the hub or a folder. See `Opened`."""
    with needs_extra(f"--trunk transformers:{model}", "transformers"):
        import transformers
    if Path(model).is_dir():
        network = _open(model, pretrained)
    elif model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise ConfigError(
            f"--trunk: {model}: no such folder, and no name on the hub, which is OWNER/NAME; save a model "
            "there with save_pretrained"
        )
    else:
        with reachable(f"https://huggingface.co/{model}/resolve/main/model.safetensors", model, FILES):
            network = _open(model, pretrained)
    module, processor = network
    config: Any = module.config
    prefix = int(hasattr(getattr(module, "embeddings", None), "cls_token"))
    return Network(
        module=module.eval(),
        transform=_transform(model, processor, config),
        facts={"library": f"transformers {transformers.__version__}", "class": type(module).__name__},
        prefix_tokens=prefix + int(getattr(config, "num_register_tokens", 0) or 0),
        classifier=("pooler", "classifier", "pooling"),
    )


def _open(model: str, pretrained: bool) -> tuple[nn.Module, dict[str, Any]]:
    import transformers
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(model)
    except OSError:
        processor = {}
    config = transformers.AutoConfig.from_pretrained(model)
    try:
        if pretrained:
            return transformers.AutoModel.from_pretrained(model, config=config, dtype="float32"), processor
        return transformers.AutoModel.from_config(config), processor
    except OSError as error:
        if Path(model).is_dir():
            raise WeightsError(
                f"--trunk transformers:{model}: {str(error).splitlines()[0]}; give --weights"
            ) from error
        raise


def _transform(model: str, processor: dict[str, Any], config: Any) -> Transform:
    """What an image processor's configuration says; without one, the model's side and ImageNet's numbers."""
    sizes = processor.get("size") or {}
    sizes = {"shortest_edge": sizes} if isinstance(sizes, int) else sizes
    crop = processor.get("crop_size") or {}
    crop = crop.get("height") if isinstance(crop, dict) else crop
    resized = sizes.get("shortest_edge") or sizes.get("height")
    cropped = crop if processor.get("do_center_crop") else None
    side = cropped or resized or getattr(config, "image_size", None)
    if not isinstance(side, int):
        raise ConfigError(f"--trunk: transformers:{model}: names no side of its images; give --image-px")
    squashed = "height" in sizes and "shortest_edge" not in sizes
    share = round(side / resized, 4) if resized and side < resized else 1.0
    if "crop_pct" in processor and not cropped:  # ConvNeXt's, below 384 pixels
        share = round(side / int(side / processor["crop_pct"]), 4) if side < 384 else 1.0
    is_normalised = processor.get("do_normalize", True)
    mean: Any = processor.get("image_mean", (0.485, 0.456, 0.406)) if is_normalised else (0.0, 0.0, 0.0)
    std: Any = processor.get("image_std", (0.229, 0.224, 0.225)) if is_normalised else (1.0, 1.0, 1.0)
    method: Any = Image.Resampling(processor.get("resample", Image.Resampling.BICUBIC)).name.lower()
    return Transform(
        image_px=side,
        resize="squash" if squashed else "shorter-side-then-center-crop",
        crop_share=share,
        interpolation=method,
        mean=tuple(mean),
        std=tuple(std),
    )
