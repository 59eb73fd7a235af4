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


class WritesParts(nn.Module):
    """Parts of a tensor written in place: added to, set, and scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1)
        self.wide = nn.Conv2d(12, 20, 3, 1, 1)
        self.fc = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = F.relu(self.wide(x))
        y[:, :12] += x
        y[:, -8:] *= 0.5
        y[:, :, 0] = 0
        return self.fc(y.mean((2, 3)))


class PermutedNorms(nn.Module):
    """Norms over channels that are last for them alone, and a strided convolution behind one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, 2)
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 24)
        self.down = nn.Linear(24, 8)
        self.between = nn.Conv2d(8, 16, 2, 2)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.down(F.gelu(self.up(self.norm(x.permute(0, 2, 3, 1)))))
        x = x + y.permute(0, 3, 1, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        return self.fc(F.relu(self.between(x)).mean((2, 3)))


class ClassToken(nn.Module):
    """A token expanded over the batch, whose size is asked in the usual ways."""

    def __init__(self, *, by_length: bool = False) -> None:
        super().__init__()
        self.by_length = by_length
        self.patches = nn.Conv2d(3, 12, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.norm = nn.LayerNorm(12)
        self.up = nn.Linear(12, 24)
        self.down = nn.Linear(24, 12)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch = len(x) if self.by_length else x.shape[0]
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(batch, -1, -1), tokens], 1)
        hidden = F.gelu(self.up(self.norm(tokens)))
        return self.fc((tokens + self.down(hidden))[:, 0])


class SplitClassToken(ClassToken):
    """The same with hidden channels split by a number: only the graph can be made smaller."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.repeat(x.shape[0], 1, 1), tokens], 1)
        left, right = self.up(self.norm(tokens)).split(12, -1)
        return self.fc((tokens + self.down(torch.cat([F.relu(left), F.gelu(right)], -1)))[:, 0])
