"""A network with channels that are vital and channels that only see noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Channels that see the plane with the class, and channels that see noise.
VITAL = [0, 2, 4, 6]
NOISE = [1, 3, 5, 7]


class Planted(nn.Module):
    """Two classes, by the first of two planes; the second is noise, which disturbs the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 2)
        signs = torch.tensor([1.0, 1, -1, -1, 1, 1, -1, -1])
        weights = signs * torch.tensor([1.0, 0.7] * 4)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[VITAL, 0, 0, 0] = signs[VITAL]
            self.conv.weight[NOISE, 1, 0, 0] = signs[NOISE]
            self.head.weight.copy_(torch.stack([-weights, weights]))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


def images(count: int = 256) -> tuple[Tensor, Tensor]:
    """Images [count, 2, 4, 4] and their classes: a plane of 1 or -1, and one of a random level."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (count,), generator=random)
    planes = torch.randn(count, 2, 4, 4, generator=random) * 0.1
    planes[:, 0] += (2 * labels - 1)[:, None, None]
    planes[:, 1] += torch.randn(count, 1, 1, generator=random)
    return planes, labels
