"""Small networks in the forms in which users bring them, one for each mechanism of the analysis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

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
        y[:, :, 1::2] *= 2
        padded = x.new_zeros(len(y), 20, 8, 8)
        padded[:, :12] = x
        y = y + padded
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
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.down(F.gelu(self.up(self.norm(x.permute(0, 2, 3, 1)))))
        x = x + y.permute(0, 3, 1, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        return self.fc(self.pool(F.relu(self.between(x))).permute(0, 2, 3, 1).flatten(1))


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


class FrozenNorm(nn.Module):
    """Batch norm with everything in buffers: a scale and a shift per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.1), ("mean", 0.05), ("variance", 0.9)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.get_buffer("weight") * (self.get_buffer("variance") + 1e-5).rsqrt()
        shift = self.get_buffer("bias") - self.get_buffer("mean") * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class CalledNorm(FrozenNorm):
    """The same by torch's function."""

    def forward(self, x: Tensor) -> Tensor:
        names = ("mean", "variance", "weight", "bias")
        return F.batch_norm(x, *(self.get_buffer(name) for name in names))


class Shift(nn.Module):
    """A learned shift behind a linear layer, where channels are last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


class FrozenBackbone(nn.Module):
    """A residual block with frozen norms; optionally its channels are split by a number."""

    def __init__(self, norm: type[FrozenNorm] = FrozenNorm, *, split: bool = False) -> None:
        super().__init__()
        self.split = split
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.stem_norm = norm(8)
        self.conv1 = nn.Conv2d(8, 12, 3, 1, 1, bias=False)
        self.norm1 = norm(12)
        self.conv2 = nn.Conv2d(12, 8, 3, 1, 1, bias=False)
        self.norm2 = norm(8)
        self.hidden = nn.Linear(8, 10)
        self.shift = Shift(10)
        self.fc = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        y = F.relu(self.norm1(self.conv1(x)))
        if self.split:
            y = torch.cat([y[:, :6], y[:, 6:]], 1)
        x = F.relu(x + self.norm2(self.conv2(y)))
        return self.fc(F.relu(self.shift(self.hidden(x.mean((2, 3))))))


class ShiftInside(nn.Module):
    """A shift and an activation that make something of zeros, in the network's own forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 1)
        self.conv2 = nn.Conv2d(8, 12, 1)
        self.conv3 = nn.Conv2d(12, 10, 1)
        self.last = nn.Conv2d(10, 4, 1)
        self.shift = nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x) + self.shift)
        return self.last(F.relu(self.conv3(torch.sigmoid(self.conv2(x)))))


class Products(nn.Module):
    """Products of two branches, many deep: random weights would overflow."""

    def __init__(self, channels: int = 8, depth: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, 2, 1)
        self.left = nn.ModuleList(nn.Conv2d(channels, 12, 1) for _ in range(depth))
        self.right = nn.ModuleList(nn.Conv2d(channels, 12, 1) for _ in range(depth))
        self.back = nn.ModuleList(nn.Conv2d(12, channels, 1) for _ in range(depth))
        self.fc = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for left, right, back in zip(self.left, self.right, self.back, strict=True):
            x = x + back(left(x) * right(x))
        return self.fc(x.mean((2, 3)))


class AuxiliaryHead(nn.Module):
    """(main, auxiliary) maps in training mode, the main map in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 12, 3, 1, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.head = nn.Conv2d(12, 3, 1)
        self.auxiliary = nn.Sequential(
            nn.Conv2d(8, 6, 3, 1, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(), nn.Conv2d(6, 3, 1)
        )

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        features = F.dropout(self.first(x), training=self.training)
        main: Tensor = self.head(self.second(features))
        return (main, self.auxiliary(features)) if self.training else main


class Detector(nn.Module):
    """A list of maps in training mode, boxes and named maps in eval; channels split by numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.heads = nn.ModuleList(nn.Conv2d(16, 4, 1) for _ in range(2))
        self.helper = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> list[Tensor] | tuple[Tensor, dict[str, Tensor]]:
        left, right = self.stem(x).split((8, 8), 1)
        joined = torch.cat([left, self.inner(right)], 1)
        near, far = (head(joined) for head in self.heads)
        if self.training:
            return [near, far, self.helper(right)]
        return (near + far).flatten(2).sigmoid(), {"near": near, "far": far}


class Maps(NamedTuple):
    """Outputs with names."""

    fine: Tensor
    coarse: Tensor


@dataclass
class Found:
    """Outputs in a class that is registered with torch."""

    fine: Tensor
    coarse: Tensor


torch.export.register_dataclass(Found, serialized_type_name="tests.Found")


@dataclass
class Scales:
    """Outputs within `Seen`."""

    coarse: Tensor
    fine: Tensor | None = None


@dataclass
class Seen:
    """Outputs in a class that torch does not know, with another inside."""

    fine: Tensor
    scales: Scales

    @property
    def coarse(self) -> Tensor:
        return self.scales.coarse


def seen(fine: Tensor, coarse: Tensor) -> Seen:
    return Seen(fine, Scales(coarse))


class Containers(nn.Module):
    """A hard-coded channel count, so that it is delivered as a graph, and outputs of any type.

    Args:
        form: Function of two tensors that returns the outputs.
        more: Whether training mode returns a third output, in a list around the others.
    """

    def __init__(self, form: Callable[[Tensor, Tensor], Any], *, more: bool = False) -> None:
        super().__init__()
        self.form = form
        self.more = more
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.right = nn.Conv2d(8, 12, 3, 2, 1)
        self.fine = nn.Conv2d(8, 5, 1)
        self.coarse = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Any:
        left, right = F.relu(self.stem(x)).split(8, 1)
        coarse = self.coarse(F.relu(self.right(right)))
        outputs = self.form(self.fine(left), coarse)
        return [outputs, coarse.mean((2, 3))] if self.more and self.training else outputs
