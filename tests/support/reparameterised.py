"""A network whose blocks have branches in training and one convolution when they are deployed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def branch(c_in: int, c_out: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class RepVggBlock(nn.Module):
    """3x3, 1x1 and identity branches; like the published one, it keeps its channel counts."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.in_channels = c_in
        self.groups = groups
        self.stride = stride
        self.dense = branch(c_in, c_out, 3, stride, groups)
        self.one = branch(c_in, c_out, 1, stride, groups)
        self.identity = nn.BatchNorm2d(c_in) if c_in == c_out and stride == 1 else None
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "fused"):
            return self.act(self.fused(x))
        skip = 0 if self.identity is None else self.identity(x)
        return self.act(self.dense(x) + self.one(x) + skip)

    def fuse(self) -> None:
        parts = [
            (self.dense[0].weight, self.dense[1]),
            (F.pad(self.one[0].weight, [1] * 4), self.one[1]),
        ]
        if self.identity is not None:
            per_group = self.in_channels // self.groups
            kernel = torch.zeros(self.in_channels, per_group, 3, 3)
            for channel in range(self.in_channels):
                kernel[channel, channel % per_group, 1, 1] = 1
            parts.append((kernel, self.identity))
        kernels, biases = [], []
        for kernel, norm in parts:
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            kernels.append(kernel * scale[:, None, None, None])
            biases.append(norm.bias - norm.running_mean * scale)
        weight = torch.stack(kernels).sum(0)
        self.fused = nn.Conv2d(
            weight.shape[1] * self.groups, len(weight), 3, self.stride, 1, groups=self.groups
        )
        self.fused.weight.data = weight.detach()
        self.fused.bias.data = torch.stack(biases).sum(0).detach()
        del self.dense, self.one, self.identity


class RepVgg(nn.Module):
    """Two stages with identity branches, one of them depthwise as in MobileOne."""

    def __init__(self, channels: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            RepVggBlock(channels, 12, 2),
            RepVggBlock(12, 12),
            RepVggBlock(12, 12, groups=12),
            RepVggBlock(12, 20, 2),
            RepVggBlock(20, 20),
        )
        self.fc = nn.Linear(20, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(x).mean((2, 3)))


def fuse(model: nn.Module) -> None:
    """Deploy hook: fuse the branches of every block, in place."""
    for module in model.modules():
        if isinstance(module, RepVggBlock):
            module.fuse()
