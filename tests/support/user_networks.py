"""Small networks in the forms in which users bring them, one for each mechanism of the analysis."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NormAct(nn.BatchNorm2d):
    """Batch norm that also activates."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


class SplitNormAct(nn.Module):
    """Norms that activate, and channels split by a number in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.norm1 = NormAct(16)
        self.conv2 = nn.Conv2d(8, 12, 3, 1, 1, bias=False)
        self.norm2 = NormAct(12)
        self.fc = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.norm1(self.conv1(x)).split(8, 1)
        right = self.norm2(self.conv2(right))
        return self.fc(torch.cat([left, right], 1).mean((2, 3)))
