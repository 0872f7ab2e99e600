"""Trained heads written the plain way, for an exporter: no kernels, nothing in place, few operations.

What trains fast (stacks of heads, crops folded into half-size products, gradients by hand) makes a graph that
takes minutes to convert. Here are the same functions of normalised maps (B, V, C, H, W), up to rounding, as
modules that `torch.export` records; `Head.plain` makes them.

Shapes: B images, V views, C×H×W cells of a map, S crops of h×w cells, D = C·h·w, R = B·S rows, K classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.maps.crops import Crop


class Plain(nn.Module):
    """Any single head by a function from maps to its stack's logits: (B, V, C, H, W) → (B, K)."""

    def __init__(self, head: nn.Module, logits: Callable[[Tensor], Tensor]) -> None:
        """`logits`: maps → (1, B, K), by the parameters of `head`."""
        super().__init__()
        self.head, self.logits = head, logits

    def forward(self, maps_BVCHW: Tensor) -> Tensor:
        return self.logits(maps_BVCHW)[0]


class Cut(nn.Module):
    """All crops of a map by one look-up: (B, V, C, H, W) → (B, S, C, h, w), mirrored ones mirrored."""

    def __init__(self, crops: Sequence[Crop], map_cells: tuple[int, int]) -> None:
        super().__init__()
        height, width = map_cells
        views = 1 + max(crop.view for crop in crops)
        numbers = torch.arange(views * height * width).view(views, height, width)
        boxes = [numbers[v, b.top : b.top + b.height, b.left : b.left + b.width] for b, _, v in crops]
        cells = [c.flip(1) if crop.mirrored else c for c, crop in zip(boxes, crops, strict=True)]
        self.shape = (len(crops), *cells[0].shape)
        self.cells = nn.Buffer(torch.stack(cells).flatten())

    def forward(self, maps_BVCHW: Tensor) -> Tensor:
        cells = maps_BVCHW.transpose(1, 2).flatten(2)  # (B, C, V·H·W)
        return cells.index_select(2, self.cells).unflatten(2, self.shape).transpose(1, 2)


class PlainFullNet(nn.Module):
    """A forward pass per crop, then the mean: (B, V, C, H, W) → (B, K)."""

    def __init__(self, cut: Cut, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.cut, self.layers = cut, nn.ModuleList(layers)

    def forward(self, maps_BVCHW: Tensor) -> Tensor:
        *hidden, output = self.layers
        x = self.cut(maps_BVCHW).flatten(2)  # (B, S, D)
        for layer in hidden:
            x = layer(x).relu()
        return output(x.mean(1))  # the layer is linear


class PlainAttention(nn.Module):
    """An LSTM that looks at one region of each crop after another: (B, V, C, H, W) → (B, K)."""

    def __init__(
        self, cut: Cut, points: tuple[int, int], starts_S4: Tensor, region: nn.Linear, gates: nn.Linear,
        state: nn.Linear, score: nn.Linear, place: nn.Linear | None,
    ) -> None:  # fmt: skip
        """`starts_S4`: where each region is before `place` moves it; None: it never does. The rows of the
        region's weight are in the order of `Transformer`: p, q, C."""
        super().__init__()
        self.cut, self.region, self.gates, self.state = cut, region, gates, state
        self.score, self.place = score, place
        whole = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
        self.starts = nn.Buffer(torch.cat([whole, starts_S4]))
        grid = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in points]
        self.grid = nn.Buffer(torch.stack(torch.meshgrid(*grid, indexing="ij")[::-1], -1))  # (p, q, 2)

    def forward(self, maps_BVCHW: Tensor) -> Tensor:
        crops = self.cut(maps_BVCHW).flatten(0, 1)  # (R, C, h, w)
        theta = self.starts[:1].expand(crops.shape[0], 4)
        hidden = memory = crops.new_zeros(1, self.state.in_features).expand(crops.shape[0], -1)
        scores = []
        for k, start in enumerate((*self.starts.unbind()[1:], None)):
            x = self.region(self.sample(crops, theta)).relu()
            take, keep, candidate, show = self.gates(torch.cat([x, hidden], 1)).chunk(4, 1)
            memory = keep.sigmoid() * memory + take.sigmoid() * candidate.tanh()
            hidden = show.sigmoid() * memory.tanh()
            z = self.state(hidden).relu()
            if k:
                scores.append(self.score(z))
            if start is not None:
                theta = start.expand(crops.shape[0], 4) if self.place is None else self.place(z) + start
        best = torch.stack(scores).amax(0)  # (R, K)
        return best.unflatten(0, (-1, self.cut.shape[0])).mean(1)

    def sample(self, crops: Tensor, theta: Tensor) -> Tensor:
        """Sample each row's region (sx, sy, tx, ty): (R, p·q·C)."""
        size, middle = theta[:, None, None, :2], theta[:, None, None, 2:]
        found = F.grid_sample(crops, size * self.grid + middle, align_corners=True)  # (R, C, p, q)
        return found.movedim(1, 3).flatten(1)


def layer(weight_io: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer of a weight (in, out), as stacks of heads have it, and a bias (out,)."""
    made = nn.Linear(weight_io.shape[0], weight_io.shape[1])
    made.weight.data, made.bias.data = weight_io.detach().t().contiguous(), bias.detach().clone()
    return made
