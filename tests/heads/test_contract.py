"""What every head promises; a new line in the registry is tested without anyone remembering."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy import config, write_cache

from cache import FeatureCache
from pipeline.heads import HEADS, POOLED
from pipeline.runs import load_head
from pipeline.train import train


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_is_loaded_again_and_scores_each_image_on_its_own(tmp_path: Path, name: str) -> None:
    folder = write_cache(tmp_path / "cache")
    run = train(config(folder, tmp_path / "run", head=name, epochs=30, hidden=(16,), lr=(0.3,)))
    loaded, data = load_head(run), FeatureCache(folder / "train.h5")
    maps = torch.from_numpy(data.take(np.arange(90), view=None))
    together = loaded.logits(maps)
    assert together.shape == (90, 3)
    assert (together.argmax(1).numpy() == data.labels).mean() > 0.95
    alone = torch.cat([loaded.logits(one) for one in maps.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert all(len(tensor) == 1 for tensor in loaded.head.state_dict().values())


def test_heads_that_average_the_map_are_registered() -> None:
    assert set(HEADS) >= POOLED
