"""A first layer that whitens small patches of the image, computed from images instead of trained."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Whitening(nn.Conv2d):
    """3×S×S → 6k²×(S−k+1)²: k×k patches projected on their principal directions, at unit variance.

    The second half of the filters is the first negated, so that an activation behind it loses neither sign.
    Source: Keller Jordan, arXiv 2404.00498, section 3.2.
    """

    def __init__(self, patch_px: int = 2) -> None:
        super().__init__(3, 6 * patch_px**2, patch_px)
        self.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Compute the filters from normalised images (N, 3, S, S)."""
        size = self.kernel_size[0]
        patches = F.unfold(images, size).transpose(1, 2).reshape(-1, 3 * size**2)
        variances, directions = torch.linalg.eigh(torch.cov(patches.T))
        filters = (directions / (variances + 5e-4).sqrt()).T.reshape(-1, 3, size, size)
        self.weight.copy_(torch.cat([filters, -filters]))
        if self.bias is not None:
            self.bias.zero_()
