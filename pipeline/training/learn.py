"""Train a single head as stage two does, and keep it in memory: no run folder, no output."""

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.device import float32_products
from pipeline.errors import RunError
from pipeline.heads.base import FittedHead, Head
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.source import drawn_views
from pipeline.progress import silent
from pipeline.runs.stack import stack_of
from pipeline.training.fitting import compute
from pipeline.training.stage import make_trainer, open_head, parts_of
from pipeline.training.trainer import Plan, default_batch


def learn(config: TrainConfig, maps: FeatureCache) -> tuple[Head, Normaliser]:
    """The head with the weights that `train` writes of these settings and maps, and the maps' normaliser.

    Raises: ConfigError when a setting doesn't suit the maps; RunError when the head diverges.
    """
    config = config.resolved()
    train_part, val_part = parts_of(config, maps)
    stack, images = stack_of(config), len(train_part.rows)
    seeds, examples = [member.seed for member in stack], images * drawn_views(maps)
    head, source = open_head(config, maps, seeds * config.blocks, examples)
    with silent(), float32_products(source.device, tf32=not isinstance(head, FittedHead)):
        source.fit_normaliser(train_part.rows)
        if isinstance(head, FittedHead):
            weights = compute(head, source, train_part, val_part, config.head).weights
        else:
            plan = Plan(config.epochs, config.batch or default_batch(images), images, config.data_seed)
            trainer = make_trainer(head, source, plan, train_part, val_part, stack, config)
            for epoch in range(config.epochs):
                trainer.epoch(epoch)
            if trainer.has_diverged.any():
                raise RunError(f"{config.head}: diverged: the loss is not finite; give a smaller lr")
            weights = trainer.weights(0)
    single, _ = open_head(config, maps, seeds[:1], examples)
    single.load_state_dict(weights)
    return single.eval().requires_grad_(False), source.normaliser
