"""Small networks of the families that methods are tried on, for images [B, 3, 12, 12]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 5


def _conv_norm(inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv_norm(channels, channels)
        self.second = _conv_norm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class ResidualNet(nn.Module):
    """Two stages of one residual block, with a projection between them."""

    def __init__(self, outputs: int = CLASSES) -> None:
        super().__init__()
        self.stem = _conv_norm(3, 8)
        self.stage1 = _ResidualBlock(8)
        self.down = _conv_norm(8, 12)
        self.stage2 = _ResidualBlock(12)
        self.head = nn.Linear(12, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stage1(torch.relu(self.stem(x)))
        y = self.stage2(torch.relu(self.down(nn.functional.max_pool2d(y, 2))))
        out: Tensor = self.head(y.mean((2, 3)))
        return out


class Vgg(nn.Module):
    """Convolutions with biases and without norms; each last channel is 3 x 3 inputs of the first
    linear layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(12 * 9, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


class _InvertedResidual(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = _conv_norm(channels, hidden, kernel=1)
        self.depthwise = _conv_norm(hidden, hidden, groups=hidden)
        self.project = _conv_norm(hidden, channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu6(self.depthwise(nn.functional.relu6(self.expand(x))))
        out: Tensor = x + self.project(y)
        return out


class MobileNetV2(nn.Module):
    """Inverted residuals with depthwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_norm(3, 8)
        self.blocks = nn.Sequential(_InvertedResidual(8, 16), _InvertedResidual(8, 16))
        self.last = _conv_norm(8, 16, kernel=1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.max_pool2d(nn.functional.relu6(self.stem(x)), 2)
        y = nn.functional.relu6(self.last(self.blocks(y)))
        out: Tensor = self.head(y.mean((2, 3)))
        return out


class _DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)


class DenseNet(nn.Module):
    """Layers that read the concatenation of all before them; norms come before convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.layers = nn.Sequential(_DenseLayer(8, 8), _DenseLayer(16, 8))
        self.norm = nn.BatchNorm2d(24)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(nn.functional.max_pool2d(self.stem(x), 2))
        out: Tensor = self.head(torch.relu(self.norm(y)).mean((2, 3)))
        return out
