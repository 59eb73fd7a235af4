"""Small networks of the families that pruning has to understand, and weights under which errors
show.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.support.networks import BasicBlock


def conv_bn(
    c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    )


class ResidualNet(nn.Module):
    """Residual sums with 1x1 projections, as in ResNet-18."""

    def __init__(
        self, widths: tuple[int, ...] = (8, 16), blocks: int = 2, classes: int = 10
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        layers = []
        c_in = widths[0]
        for stage, width in enumerate(widths):
            stride = 1 if stage == 0 else 2
            layers.append(
                nn.Sequential(
                    *(
                        BasicBlock(c_in if b == 0 else width, width, stride if b == 0 else 1)
                        for b in range(blocks)
                    )
                )
            )
            c_in = width
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(c_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(F.relu(self.bn1(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Vgg(nn.Module):
    """Plain convolutions, then `flatten`: each channel is 7x7 inputs of the first linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_bn(3, 12), nn.MaxPool2d(2), conv_bn(12, 16))
        self.classifier = nn.Sequential(
            nn.Linear(16 * 7 * 7, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class CifarBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.padded = c_out // 4 if stride != 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.padded:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padded, self.padded))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """The CIFAR ResNet of He et al. with shortcuts without parameters (option A)."""

    def __init__(self, blocks: int = 3, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._layer(width, width, blocks, 1)
        self.layer2 = self._layer(width, 2 * width, blocks, 2)
        self.layer3 = self._layer(2 * width, 4 * width, blocks, 2)
        self.linear = nn.Linear(4 * width, 10)

    def _layer(self, c_in: int, c_out: int, blocks: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            CifarBlock(c_in, c_out, stride),
            *(CifarBlock(c_out, c_out, 1) for _ in range(blocks - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        y = F.avg_pool2d(y, y.size()[3])
        return self.linear(y.view(y.size(0), -1))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))


class InvertedResidual(nn.Module):
    def __init__(
        self, c_in: int, c_out: int, expansion: int, stride: int, excite: bool = False
    ) -> None:
        super().__init__()
        hidden = c_in * expansion
        activation = nn.Hardswish if excite else nn.ReLU6
        self.body = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            activation(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            activation(),
            SqueezeExcite(hidden, hidden // 2) if excite else nn.Identity(),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class MobileNet(nn.Module):
    """Inverted residuals with depthwise convolutions; with squeeze-excite and hard-swish as
    in V3.
    """

    def __init__(self, excite: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(3, 8, stride=2),
            InvertedResidual(8, 12, 2, 1, excite),
            InvertedResidual(12, 12, 3, 1, excite),
            InvertedResidual(12, 16, 3, 2, excite),
            conv_bn(16, 32, kernel=1),
        )
        self.classifier = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode with statistics, scales and shifts under which a wrong removal
    shows.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.dim() == 1 and value.is_floating_point():
                low = 0.5 if name.endswith(("running_var", "weight")) else -0.4
                value.copy_(low + torch.rand(value.shape, generator=random))
            elif value.dim() > 1:
                spread = torch.randn(value.shape, generator=random)
                value.copy_(spread / value[0].numel() ** 0.5)
    return model.eval()
