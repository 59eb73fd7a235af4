"""Networks that benchmarks are run on, in the forms of their papers, without torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016); a strided 1x1 convolution where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = (
            nn.Sequential()
            if stride == 1 and c_in == c_out
            else nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network of basic blocks: `stem` 3 is the CIFAR form, 7 the ImageNet form with its max pooling."""

    def __init__(self, blocks: tuple[int, ...], widths: tuple[int, ...], *, classes: int, stem: int) -> None:
        super().__init__()
        large = stem == 7
        self.conv1 = nn.Conv2d(3, widths[0], stem, 2 if large else 1, stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        stages: list[nn.Module] = []
        c_in = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for i in range(count):
                stages.append(BasicBlock(c_in, width, 2 if stage and not i else 1))
                c_in = width
        self.layers = nn.Sequential(*stages)
        self.linear = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.pool(F.relu(self.bn1(self.conv1(x)))))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


def resnet20() -> tuple[nn.Module, Tensor]:
    """ResNet-20 in its CIFAR form and an example input [1, 3, 32, 32]."""
    return ResNet((3, 3, 3), (16, 32, 64), classes=10, stem=3), torch.randn(1, 3, 32, 32)


def resnet18() -> tuple[nn.Module, Tensor]:
    """ResNet-18 in its ImageNet form and an example input [1, 3, 224, 224]."""
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), classes=1000, stem=7), torch.randn(1, 3, 224, 224)
