"""Small networks of the more awkward families: concatenation, groups, shuffles, splits, hard-coded
counts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.networks import Vgg, conv_bn


class DenseLayer(nn.Module):
    def __init__(self, c_in: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, 2 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * growth)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, y], 1)


class DenseNet(nn.Module):
    """Pre-activation layers on concatenated features, transitions, norms over the concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.block1 = nn.Sequential(DenseLayer(8, 6), DenseLayer(14, 6))
        self.transition = nn.Sequential(
            nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1, bias=False), nn.AvgPool2d(2)
        )
        self.block2 = nn.Sequential(DenseLayer(10, 6), DenseLayer(16, 6))
        self.norm = nn.BatchNorm2d(22)
        self.classifier = nn.Linear(22, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.block2(self.transition(self.block1(self.stem(x))))))
        return self.classifier(y.mean((2, 3)))


class InceptionBlock(nn.Module):
    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.one = conv_bn(c_in, 8, kernel=1)
        self.three = nn.Sequential(conv_bn(c_in, 6, kernel=1), conv_bn(6, 10))
        self.pool = conv_bn(c_in, 6, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, 3, stride=1, padding=1)
        return torch.cat([self.one(x), self.three(x), self.pool(pooled)], 1)


class Inception(nn.Module):
    """Parallel branches, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8)
        self.blocks = nn.Sequential(InceptionBlock(8), InceptionBlock(24))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class RegNet(nn.Module):
    """Bottlenecks whose middle is a grouped convolution: whole groups are removed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16)
        self.bodies = nn.ModuleList(
            nn.Sequential(
                conv_bn(16, 32, kernel=1),
                conv_bn(32, 32, groups=8),
                nn.Conv2d(32, 16, 1, bias=False),
                nn.BatchNorm2d(16),
            )
            for _ in range(2)
        )
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        for body in self.bodies:
            y = F.relu(y + body(y))
        return self.fc(y.mean((2, 3)))


class UNet(nn.Module):
    """Transposed convolutions and skips by concatenation; an image comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = conv_bn(3, 8)
        self.down2 = conv_bn(8, 12)
        self.bottom = conv_bn(12, 16)
        self.up2 = nn.ConvTranspose2d(16, 12, 2, 2)
        self.merge2 = conv_bn(24, 12)
        self.up1 = nn.ConvTranspose2d(12, 8, 2, 2)
        self.merge1 = conv_bn(16, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        d = self.merge2(torch.cat([b, self.up2(c)], 1))
        return self.head(self.merge1(torch.cat([a, self.up1(d)], 1)))


class DepthMultiplier(nn.Module):
    """A depthwise convolution that makes two channels of each, and a transposed one in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 12)
        self.depthwise = nn.Conv2d(12, 24, 3, padding=1, groups=12)
        self.norm = nn.BatchNorm2d(24)
        self.point = conv_bn(24, 16, kernel=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2, groups=8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.point(F.relu(self.norm(self.depthwise(self.stem(x)))))
        return self.fc(F.relu(self.up(y)).mean((2, 3)))


class SuperResolution(nn.Module):
    """PixelShuffle: four channels become the pixels of one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv_bn(3, 12)
        self.grow = nn.Conv2d(12, 32, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self.unshuffle = nn.PixelUnshuffle(2)
        self.back = conv_bn(32, 12)
        self.last = nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.shuffle(self.grow(self.first(x))))
        return F.pixel_shuffle(self.last(self.back(self.unshuffle(y))), 2)


class GatedUnits(nn.Module):
    """Chunks and slices of channels: halves multiplied, ranges taken."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 24)
        self.widen = nn.Conv2d(24, 32, 3, padding=1)
        self.left = conv_bn(10, 8)
        self.right = conv_bn(6, 8)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.widen(self.stem(x)).chunk(2, dim=1)
        y = a * torch.sigmoid(b)
        return self.fc(torch.cat([self.left(y[:, :10]), self.right(y[:, 10:])], 1).mean((2, 3)))


class ShuffleUnit(nn.Module):
    def __init__(self, half: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_bn(half, half, kernel=1),
            nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            conv_bn(half, half, kernel=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        y = torch.cat([kept, self.branch(changed)], 1)
        batch, channels, height, width = y.shape
        y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return y.view(batch, channels, height, width)


class ShuffleNet(nn.Module):
    """Split, branch, concatenate, shuffle, as in ShuffleNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 32)
        self.units = nn.Sequential(ShuffleUnit(16), ShuffleUnit(16))
        self.last = conv_bn(32, 24, kernel=1)
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.last(self.units(self.stem(x))).mean((2, 3)))


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.grow = nn.Linear(channels, 3 * channels)
        self.shrink = nn.Linear(3 * channels, channels)
        self.scale = nn.Parameter(0.1 * torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.shrink(F.gelu(self.grow(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """Depthwise 7x7, LayerNorm over the channels, linear layers on the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 2, 2)
        self.blocks = nn.Sequential(ConvNeXtBlock(12), ConvNeXtBlock(12))
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.stem(x)).mean((2, 3))))


class UsedTwice(nn.Module):
    """One convolution and its norm applied twice in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 12)
        self.shared = conv_bn(12, 12)
        self.last = conv_bn(12, 16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.shared(self.shared(self.stem(x)))
        return self.fc(self.last(y).mean((2, 3)))


class TwoStreams(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.image = conv_bn(3, 12)
        self.depth = conv_bn(1, 12)
        self.merged = conv_bn(12, 16)
        self.mask = nn.Conv2d(16, 1, 1)
        self.fc = nn.Linear(16, 10)

    def forward(self, image: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        y = self.merged(self.image(image) + self.depth(depth))
        return self.fc(y.mean((2, 3))), self.mask(y)


class HardCoded(nn.Module):
    """Reshapes with channel counts written into the forward pass, and a shuffle of groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 24)
        self.mix = conv_bn(24, 24, kernel=1)
        self.fc = nn.Linear(24 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = (
            y.view(-1, 3, 8, y.shape[2], y.shape[3])
            .transpose(1, 2)
            .reshape(-1, 24, y.shape[2], y.shape[3])
        )
        return self.fc(F.adaptive_avg_pool2d(self.mix(y), 4).view(-1, 24 * 16))


class Awkward(nn.Module):
    """Norms without parameters, group and instance norms, reflection, upsampling, a bare
    sigmoid.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1, padding_mode="reflect", bias=False)
        self.plain = nn.BatchNorm2d(12, affine=False)
        self.conv = nn.Conv2d(12, 16, 3, padding=1)
        self.instance = nn.InstanceNorm2d(16, affine=True)
        self.slope = nn.PReLU(16)
        self.next = nn.Conv2d(16, 16, 3, padding=1)
        self.group = nn.GroupNorm(4, 16)
        self.squashed = nn.Conv2d(16, 12, 3, padding=1)
        self.last = nn.Conv2d(12, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.plain(self.stem(x)))
        y = self.slope(self.instance(self.conv(y)))
        y = F.interpolate(y, scale_factor=2, mode="nearest")
        y = F.interpolate(
            self.group(self.next(y)), size=(6, 6), mode="bilinear", align_corners=False
        )
        return self.last(torch.sigmoid(self.squashed(y))).mean((2, 3))


class Bottleneck(nn.Module):
    def __init__(self, c_in: int, middle: int, stride: int) -> None:
        super().__init__()
        c_out = 4 * middle
        self.body = nn.Sequential(
            conv_bn(c_in, middle, kernel=1),
            conv_bn(middle, middle, stride=stride),
            nn.Conv2d(middle, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class BottleneckNet(nn.Module):
    """Bottlenecks of three convolutions with residual sums, as in ResNet-50."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 8), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(
            Bottleneck(8, 6, 1), Bottleneck(24, 6, 1), Bottleneck(24, 10, 2)
        )
        self.fc = nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1))


class Excited(nn.Module):
    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = 4 * c_in
        self.expand = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.SiLU()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.SiLU(),
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(hidden, 4, 1),
            nn.SiLU(),
            nn.Conv2d(4, hidden, 1),
            nn.Sigmoid(),
        )
        self.project = nn.Sequential(nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.squeeze(y))
        return x + y if self.residual else y


class EfficientNet(nn.Module):
    """Inverted residuals with SiLU, 5x5 depthwise convolutions and squeeze-excite by sigmoid, as in
    EfficientNet.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU()
        )
        self.blocks = nn.Sequential(
            Excited(8, 8, 3, 1), Excited(8, 12, 5, 2), Excited(12, 12, 5, 1)
        )
        self.head = nn.Sequential(nn.Conv2d(12, 32, 1, bias=False), nn.BatchNorm2d(32), nn.SiLU())
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.blocks(self.stem(x))).mean((2, 3)))


def inputs_of(model: nn.Module) -> tuple[Tensor, ...]:
    """A small example batch for any of these networks."""
    if isinstance(model, TwoStreams):
        return torch.randn(2, 3, 8, 8), torch.randn(2, 1, 8, 8)
    return (torch.randn(2, 3, 14, 14) if isinstance(model, Vgg) else torch.randn(2, 3, 16, 16),)
