"""`transformers:NAME[@LAYER]`: vision models of Hugging Face, by a name on the hub or a folder."""

from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from pipeline.errors import ConfigError, WeightsError, needs_extra
from pipeline.images.transform import Transform
from pipeline.trunks.hub import reachable
from pipeline.trunks.network import Network
from pipeline.trunks.outputs import prefix_tokens_of

IMAGE_PX = 224
"""The side that a model takes which names none: ImageNet's, as most do."""
FILES = "model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"


def open_model(model: str, pretrained: bool, image_px: int | None) -> Network:
    """The model, without a head, that `AutoModel` makes of a name on the hub or a folder. See `Opened`."""
    with needs_extra(f"--trunk transformers:{model}", "transformers"):
        import transformers
    transformers.logging.set_verbosity_error()  # what its reports say is in the loading info
    transformers.logging.disable_progress_bar()
    if Path(model).is_dir():
        network = _open(model, pretrained)
    elif model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise ConfigError(
            f"--trunk: {model}: no such folder, and no name on the hub, which is OWNER/NAME; save a model "
            "there with save_pretrained"
        )
    else:
        with reachable(
            f"https://huggingface.co/{model}/resolve/main/model.safetensors",
            model,
            FILES,
            f"fetch it where there is a network (hf download {model} --local-dir FOLDER), and name the "
            "folder: --trunk transformers:FOLDER",
        ):
            network = _open(model, pretrained)
    module, processor, unfilled = network
    config: Any = module.config
    return Network(
        module=module.eval(),
        transform=_transform(processor, config),
        facts={"library": f"transformers {transformers.__version__}", "class": type(module).__name__},
        prefix_tokens=prefix_tokens_of(module),
        classifier=("pooler", "classifier", "pooling"),
        unfilled=unfilled,
        convert=lambda tensors: _converted(module, tensors),
    )


def _converted(module: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a file by the module's names, which the library changes while it reads."""
    made, info = type(module).from_pretrained(
        None,
        config=module.config,
        state_dict=tensors,
        dtype="float32",
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    unfilled = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    return {name: tensor for name, tensor in made.state_dict().items() if name not in unfilled}


def _open(model: str, pretrained: bool) -> tuple[nn.Module, dict[str, Any], frozenset[str]]:
    """The model, the configuration of its images, and names of weights that the files don't have."""
    import transformers
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(model)
    except OSError:
        processor = {}
    config = transformers.AutoConfig.from_pretrained(model)
    config = getattr(config, "vision_config", config)  # CLIP has a tower for texts beside it
    if not pretrained:
        return transformers.AutoModel.from_config(config), processor, frozenset()
    try:
        module, info = transformers.AutoModel.from_pretrained(
            model, config=config, dtype="float32", output_loading_info=True
        )
    except OSError as error:
        if Path(model).is_dir():
            raise WeightsError(
                f"--trunk transformers:{model}: {str(error).splitlines()[0]}; give --weights"
            ) from error
        raise
    return module, processor, frozenset(info["missing_keys"])


def _transform(processor: dict[str, Any], config: Any) -> Transform:
    """What an image processor's configuration says; without one, the model's side and ImageNet's numbers."""
    sizes = processor.get("size") or {}
    sizes = {"shortest_edge": sizes} if isinstance(sizes, int) else sizes
    crop = processor.get("crop_size") or {}
    crop = crop.get("height") if isinstance(crop, dict) else crop
    resized = sizes.get("shortest_edge") or sizes.get("height")
    cropped = crop if processor.get("do_center_crop") else None
    own = getattr(config, "image_size", None)
    side: Any = cropped or resized or (own[0] if isinstance(own, list | tuple) else own) or IMAGE_PX
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
