"""Where the regions of recurrent attention start, and that they stay there if they are fixed."""

import torch
from support import attention_reference as plain
from support.attending import CLASSES, LABELS, stack

from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.recurrent_attention import RecurrentAttention
from pipeline.heads.transformer import Transformer
from pipeline.maps.crops import crops_of


def test_regions_start_as_the_whole_map_or_as_half_of_it_each_at_its_anchor() -> None:
    starts = {"whole": 11 * [[1.0, 1, 0, 0]], "anchors": [[0.5, 0.5, *at] for at in plain.ANCHORS]}
    starts["anchors"] += starts["anchors"][:2]
    for start, expected in starts.items():
        config = TrainConfig(
            head="recurrent-attention",
            hidden=(8,),
            crops="full",
            steps=11,
            region_start=start,  # pyright: ignore[reportArgumentType]
        )
        head = RecurrentAttention(HeadSpec(config, (2, 5, 5), CLASSES, (0, 1)))
        theta = head.attention(head.prepare(torch.randn(4, 1, 2, 5, 5))).theta
        assert torch.equal(theta, torch.tensor(expected).expand(2, 4, 1, 11, 4))
        assert head.place_bias.shape == (2, 4 if start == "whole" else 11 * 4)  # the paper's is one for all


def test_fixed_regions_neither_depend_on_the_image_nor_learn() -> None:
    head = stack((2, 5, 4), crops="full", region_start="fixed")
    inputs = head.prepare(torch.randn(3, 1, 2, 5, 4, dtype=torch.float64))
    expected = head.place_bias.view(2, 1, 1, 5, 4).expand(-1, 3, -1, -1, -1)
    assert torch.equal(head.attention(inputs).theta, expected)
    head.losses(inputs, LABELS).sum().backward()
    idle = {name for name, p in head.named_parameters() if p.grad is None}
    assert idle == {"place_weight", "place_bias"}


def test_a_region_far_off_or_not_a_number_shows_zeros() -> None:
    """A head that diverges must not look up cells that no map has."""
    transformer = Transformer(crops_of("ten", (5, 6), (4, 4)), (5, 6), (2, 3))
    theta = torch.ones(1, 1, 10, 4)
    theta[..., 2] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, -1e30]).repeat(2)
    assert torch.equal(transformer(torch.ones(1, 30, 2), theta), torch.zeros(1, 1, 10, 12))
