"""The network of the demo data, and the handwritten digits that it reads."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

#: Sides of the images, pixels.
SIDE = 16


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


class DigitsDemo(nn.Module):
    """A residual CNN for grey images of `SIDE` pixels: [B, 1, S, S] -> [B, 10].

    All its convolutions are 3x3 without stride, one kind of layer: the lattice of a target is then
    known after one sweep.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.block1 = _Block(32)
        self.conv2 = nn.Conv2d(32, 64, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.block2 = _Block(64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.block1(torch.relu(self.bn1(self.conv1(x))))
        y = torch.relu(self.bn2(self.conv2(F.max_pool2d(y, 2))))
        scores: Tensor = self.fc(self.block2(y).mean((2, 3)))
        return scores


def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 images of handwritten digits that scikit-learn ships (UCI, Alpaydin and Kaynak,
    1998), enlarged: float32 [1797, 1, S, S] in 0 to 1, and labels [1797].
    """
    found = load_digits()
    images = torch.from_numpy(found.images).float()[:, None] / 16
    large = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return large, torch.from_numpy(found.target).long()
