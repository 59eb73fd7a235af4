"""Networks for benchmarks, in the forms of their papers, without torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Padding(nn.Module):
    """Shortcut without parameters (He et al. 2016, option A): subsampled, padded with zeros."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.channels = (c_out - c_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.channels, self.channels)
        )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016).

    Where the shape changes the shortcut is padding or a 1x1 convolution.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, *, padding: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Sequential()
        if (stride > 1 or c_in != c_out) and padding:
            self.shortcut = Padding(c_in, c_out, stride)
        elif stride > 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Residual network of basic blocks: `stem` 3 is the CIFAR form, 7 the ImageNet form."""

    def __init__(
        self,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        *,
        classes: int,
        stem: int,
        padding: bool = False,
    ) -> None:
        super().__init__()
        large = stem == 7
        self.conv1 = nn.Conv2d(3, widths[0], stem, 2 if large else 1, stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        stages: list[nn.Module] = []
        c_in = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for i in range(count):
                stages.append(BasicBlock(c_in, width, 2 if stage and not i else 1, padding=padding))
                c_in = width
        self.layers = nn.Sequential(*stages)
        self.linear = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.pool(F.relu(self.bn1(self.conv1(x)))))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


class Vgg(nn.Module):
    """Plain 3x3 convolutions with batch norm and max pooling (Simonyan & Zisserman 2015)."""

    def __init__(self, stages: tuple[tuple[int, ...], ...], *, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c_in = 3
        for widths in stages:
            for c_out in widths:
                layers += [
                    nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False),
                    nn.BatchNorm2d(c_out),
                    nn.ReLU(),
                ]
                c_in = c_out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).mean((2, 3)))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """A 1x1 convolution that widens, a depthwise 3x3, a 1x1 that narrows (Sandler et al. 2018)."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        wider = (
            [nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
            if expansion > 1
            else []
        )
        self.body = nn.Sequential(
            *wider,
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Inverted residuals for 32x32 images; `stages` hold expansion, width, blocks and stride."""

    def __init__(
        self, stages: tuple[tuple[int, int, int, int], ...], *, stem: int, last: int, classes: int
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, stem, 3, 1, 1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU6(),
        ]
        c_in = stem
        for expansion, c_out, blocks, stride in stages:
            for i in range(blocks):
                layers.append(InvertedResidual(c_in, c_out, 1 if i else stride, expansion))
                c_in = c_out
        layers += [nn.Conv2d(c_in, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).mean((2, 3)))  # type: ignore[no-any-return]


def resnet8() -> tuple[nn.Module, Tensor]:
    """A ResNet of one block per stage, fast to measure, and an example [1, 3, 32, 32]."""
    return ResNet((1, 1, 1), (16, 32, 64), classes=10, stem=3), torch.randn(1, 3, 32, 32)


def resnet20() -> tuple[nn.Module, Tensor]:
    """ResNet-20 in its CIFAR form and an example input [1, 3, 32, 32]."""
    return ResNet((3, 3, 3), (16, 32, 64), classes=10, stem=3), torch.randn(1, 3, 32, 32)


def wide_resnet20() -> tuple[nn.Module, Tensor]:
    """ResNet-20 twice as wide (0.2 to 3 ms) and an example input [1, 3, 32, 32]."""
    return ResNet((3, 3, 3), (32, 64, 128), classes=10, stem=3), torch.randn(1, 3, 32, 32)


def resnet18() -> tuple[nn.Module, Tensor]:
    """ResNet-18 in its ImageNet form and an example input [1, 3, 224, 224]."""
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), classes=1000, stem=7), torch.randn(
        1, 3, 224, 224
    )


def resnet44() -> tuple[nn.Module, Tensor]:
    """ResNet-44 in its CIFAR form and an example input [1, 3, 32, 32]."""
    return ResNet((7, 7, 7), (16, 32, 64), classes=10, stem=3), torch.randn(1, 3, 32, 32)


def resnet56() -> tuple[nn.Module, Tensor]:
    """ResNet-56 in its CIFAR form and an example input [1, 3, 32, 32]."""
    return ResNet((9, 9, 9), (16, 32, 64), classes=10, stem=3), torch.randn(1, 3, 32, 32)


def vgg11() -> tuple[nn.Module, Tensor]:
    """VGG-11 at half its widths for 32x32 images, and an example input [1, 3, 32, 32]."""
    stages = ((32,), (64,), (128, 128), (256, 256), (256, 256))
    return Vgg(stages, classes=10), torch.randn(1, 3, 32, 32)


def mobilenet_v2() -> tuple[nn.Module, Tensor]:
    """MobileNetV2 with fewer and later stages, and an example input [1, 3, 32, 32]."""
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 1), (6, 64, 2, 2), (6, 96, 2, 1))
    return MobileNetV2(stages, stem=32, last=320, classes=10), torch.randn(1, 3, 32, 32)


class SqueezeExcite(nn.Module):
    """Widen, depthwise 3x3, squeeze-excite, narrow, with hard swish (Howard et al. 2019)."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.widen = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
        )
        self.reduce = nn.Conv2d(hidden, hidden // 4, 1)
        self.expand = nn.Conv2d(hidden // 4, hidden, 1)
        self.narrow = nn.Sequential(nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.widen(x))
        scale = F.hardsigmoid(self.expand(F.relu(self.reduce(y.mean((2, 3), keepdim=True)))))
        narrow: Tensor = self.narrow(y * scale)
        return x + narrow if self.residual else narrow


def squeeze_excite() -> tuple[nn.Module, Tensor]:
    """A small network in the form of MobileNetV3 and an example input [1, 3, 32, 32]."""
    stages = ((16, 16, 1, 2), (16, 32, 2, 4), (32, 32, 1, 4), (32, 64, 2, 4), (64, 64, 1, 4))
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.Hardswish(),
        *(SqueezeExcite(*stage) for stage in stages),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ), torch.randn(1, 3, 32, 32)
