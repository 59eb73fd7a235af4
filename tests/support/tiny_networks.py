"""A tiny residual classifier and data that it learns in a second."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + x)


class TinyNet(nn.Module):
    """For 8x8 grey images in ten classes; two width groups: the stem with the shortcut, and the
    block's inside.
    """

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.block = Block(channels)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(torch.relu(self.bn(self.conv(x)))).mean((2, 3)))


def tiny_net() -> TinyNet:
    """The net, always with the same first weights."""
    torch.manual_seed(0)
    return TinyNet()


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's 1,797 real digits: uint8 [N, 1, 8, 8] and labels [N]."""
    found = load_digits()
    return torch.from_numpy(found.images * 15.9375).to(torch.uint8)[:, None], torch.from_numpy(
        found.target
    ).long()


class Regressor(nn.Module):
    """Two answers, no classes; the second convolution's channel 3 reaches neither."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(9)  # no other channel is dead
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 1, 1)
        with torch.no_grad():
            self.head.weight[:, 3] = 0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.second(self.first(x).relu()).relu()
        return {"map": self.head(features), "mean": self.head(features).mean((2, 3))}
