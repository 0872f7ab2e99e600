"""Recurrent attention: an LSTM looks at one region of the map after another and says where to look next.

*Multi-label Image Recognition by Recurrently Discovering Attentional Regions* (Wang et al., ICCV 2017). Step
0 sees the whole map and only seeds the LSTM:

    f_k = the map sampled in region M_k          M_0 = the whole map
    x_k = ReLU(FC(f_k))
    h_k, c_k = LSTM(x_k, h_k-1, c_k-1)           zero before the first
    z_k = ReLU(FC(h_k))
    M_k+1 = FC(z_k) = (sx, sy, tx, ty)           starts with zero weights, see below
    scores_k = FC(z_k) for k ≥ 1

An image's score for a class is the highest over the regions, averaged over crops, each of which is a map of
its own. Unlike in the paper, one width serves all layers, and the default loss is `bce`.

The first layer, over all cells of a region at each step, is the expensive one. So its weight gradient is one
product for all steps (`Recurrence`); crops are rows of a batch; step 0's regions have no parameters and are
prepared once for all epochs; the scores of all steps are one product.

The paper starts every region as the whole map: bias (1, 1, 0, 0). They then shrink and drift apart while the
scores are learned on them, and end up anywhere. With `--region-start anchors` each step has a bias of its own
instead, half the map at the step's anchor; with `fixed` regions never leave it.

Shapes: M heads, B images, N crops, R = B·N rows, S regions, h width, K classes, p×q points of a region.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.heads.base import Head, HeadSpec
from pipeline.heads.losses import WIDEST, anchors, classification_loss, localisation_loss, mean_of
from pipeline.heads.lstm import lstm_weight
from pipeline.heads.plain import Cut, PlainAttention, layer
from pipeline.heads.recurrence import Recurrence
from pipeline.heads.trace import Layers
from pipeline.heads.transformer import Transformer
from pipeline.maps.crops import Crop
from pipeline.wording import flag


class Attention(NamedTuple):
    """Where a head looked and what it saw there."""

    theta: Tensor  # (M, B, N, S, 4) regions (sx, sy, tx, ty) in coordinates of the crop, see Transformer
    step_logits: Tensor  # (M, B, N, S, K)

    @property
    def logits(self) -> Tensor:
        """(M, B, K) the highest score over the regions, averaged over the crops."""
        return self.step_logits.amax(3).mean(2)


class RecurrentAttention(Head):
    """(B, V, C, H, W) → maps and whole crops (B, ·) → (M, B, K)."""

    def __init__(self, spec: HeadSpec) -> None:
        """Raises: ConfigError when more than one width is asked for, or the crop is larger than the map."""
        super().__init__(spec)
        settings, (channels, height, width) = spec.settings, spec.map_shape
        hidden, *more = settings.hidden
        if more:
            raise ConfigError(
                f"{flag('hidden')}: expected one width for recurrent-attention, found {len(more) + 1}"
            )
        cells, self.crops = (height, width), spec.crops()
        self.maps_per_image = len(self.seeds) * len(self.crops)
        self.views, self.steps = 1 + max(crop.view for crop in self.crops), settings.steps
        self.map_layout = (self.views, height, width, channels)
        self.points = _points(settings.region_cells, self.crops[0])
        self.fixed = settings.region_start == "fixed"
        self.transformer = Transformer(self.crops, cells, self.points)
        self.recurrence = Recurrence(self.transformer, self.fixed)
        # A mirrored crop as a whole is the mirror image of the crop: only one of them is prepared.
        plain = list(dict.fromkeys(crop._replace(mirrored=False) for crop in self.crops))
        self.whole = Transformer(plain, cells, self.points)
        boxes = (torch.arange(len(plain) * math.prod(self.points)) + self.views * height * width).view(
            -1, *self.points
        )
        chosen = [(boxes[plain.index(crop._replace(mirrored=False))], crop.mirrored) for crop in self.crops]
        first = torch.stack([box.flip(1) if mirrored else box for box, mirrored in chosen])
        self.register_buffer("first", first.flatten(1), persistent=False)  # (N, p·q) rows of an image
        self.first: Tensor
        self.localisation, self.constraints = settings.localisation, settings.constraints
        self.dropout_rate, self.recordable = settings.dropout, not settings.dropout
        self._set_up_layers(channels * self.points[0] * self.points[1], hidden, spec.classes)
        self._set_up_places(hidden, settings.region_start != "whole")

    def _set_up_layers(self, size: int, width: int, classes: int) -> None:
        # Rows in the order p, q, C. In files that name it region_weight they are in another.
        self.look_weight = self.new_weight(size, width, std=(2 / size) ** 0.5)
        self.look_bias = self.new_bias(width)
        self.lstm_weight, self.lstm_bias = lstm_weight(self, width)
        self.state_weight = self.new_weight(width, width, std=(2 / width) ** 0.5)
        self.state_bias = self.new_bias(width)
        self.score_weight = self.new_weight(width, classes, std=width**-0.5)
        self.score_bias = self.new_bias(classes)

    def _set_up_places(self, width: int, anchored: bool) -> None:
        """Make the layer that leads from a state to the next region."""
        self.place_weight = self.new_weight(width, 4, std=0.0)
        start = torch.tensor([[1.0, 1.0, 0.0, 0.0]])  # shared by all steps
        places = anchors(self.steps)
        self.register_buffer("places", places, persistent=False)  # a recorded step can't upload them
        self.places: Tensor
        if anchored:
            start = torch.cat([torch.full_like(places, WIDEST), places], 1)  # (S, 4)
        self.place_bias = nn.Parameter(start.flatten().repeat(len(self.seeds), 1))

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        maps = maps_BVCHW[:, : self.views].movedim(2, 4).flatten(1, 3)  # (B, V·H·W, C)
        return torch.cat([maps.flatten(1), self.whole.whole(maps).flatten(1)], 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.attention(inputs).logits

    def losses(self, inputs: Tensor, labels: Tensor, own_MB: Tensor | None = None) -> Tensor:
        found = self.attention(inputs)
        losses = classification_loss(found.logits, labels, self.loss)
        constrained = localisation_loss(found.theta, self.constraints, self.places)
        return mean_of(losses + self.localisation * constrained, own_MB)

    def attention(self, inputs: Tensor) -> Attention:
        """Find all regions and their scores in inputs from `prepare`."""
        heads, batch = len(self.seeds), len(inputs)
        starts = self.place_bias.view(heads, -1, 4).expand(-1, self.steps, -1)  # (M, S, 4)
        named = {name: getattr(self, name) for name in Layers._fields if name != "starts"}
        mask = self._mask if self.training and self.dropout_rate else None
        rows = inputs.view(batch, -1, self.map_layout[-1])  # cells of maps, and points of whole crops
        images = torch.arange(batch, device=inputs.device)[:, None, None] * rows.shape[1]
        first = (self.first + images).flatten(0, 1)  # (R, p·q)
        thetas, states = self.recurrence(rows, first, Layers(**named, starts=starts), mask)
        scores = torch.baddbmm(self.score_bias[:, None], states.flatten(1, 2), self.score_weight)
        scores = scores.unflatten(1, (self.steps, batch, -1))  # (M, S, B, N, K)
        return Attention(thetas.unflatten(2, (batch, -1)).movedim(1, 3), scores.movedim(1, 3))

    def _mask(self, like: Tensor) -> Tensor:
        return self.dropout(torch.ones_like(like), self.dropout_rate)

    def plain(self) -> nn.Module:
        names = ("look", "lstm", "state", "score")
        region, gates, state, score = (
            layer(self.get_parameter(f"{n}_weight")[0], self.get_parameter(f"{n}_bias")[0]) for n in names
        )
        starts = self.place_bias[0].detach().view(-1, 4).expand(self.steps, 4)
        place = None if self.fixed else layer(self.place_weight[0], starts.new_zeros(4))
        cut = Cut(self.crops, self.map_layout[1:3])
        return PlainAttention(cut, self.points, starts, region, gates, state, score, place)


def _points(asked: int | None, crop: Crop) -> tuple[int, int]:
    """Points (p, q) of a region: as asked, or half the crop's cells, rounded up."""
    return (asked, asked) if asked else ((crop.box.height + 1) // 2, (crop.box.width + 1) // 2)
