"""The blocks of random networks: what is more than a module of torch in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A sum of a body and its input, or of a projection of its input."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.body(x)


class Branches(nn.Module):
    """Concatenation of several ways."""

    def __init__(self, ways: Sequence[nn.Module]) -> None:
        super().__init__()
        self.ways = nn.ModuleList(ways)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([way(x) for way in self.ways], 1)


class Parts(nn.Module):
    """Channels split into parts by numbers, the first of them changed, joined in another order."""

    def __init__(
        self, sizes: list[int], first: nn.Module, *, by_slices: bool, turned: bool
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.first = first
        self.by_slices = by_slices
        self.turned = turned

    def forward(self, x: Tensor) -> Tensor:
        if self.by_slices:
            parts = [x[:, : self.sizes[0]], x[:, self.sizes[0] :]]
        else:
            parts = list(x.split(self.sizes, 1))
        parts[0] = self.first(parts[0])
        return torch.cat(parts[::-1] if self.turned else parts, 1)

    def extra_repr(self) -> str:
        return f"{self.sizes}, by_slices={self.by_slices}, turned={self.turned}"


class Interleaved(nn.Module):
    """Every other channel is changed."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x[:, ::2]), x[:, 1::2]], 1)


class GatedHalves(nn.Module):
    """One half of the channels gates the other."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, 1)
        return value * torch.sigmoid(gate)


class Shuffle(nn.Module):
    """Channels of several groups in turn."""

    def __init__(self, groups: int, *, flat: bool) -> None:
        super().__init__()
        self.groups = groups
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        y = x.view(batch, self.groups, channels // self.groups, height, width).transpose(1, 2)
        return y.flatten(1, 2) if self.flat else y.reshape(batch, channels, height, width)

    def extra_repr(self) -> str:
        return f"{self.groups}, flat={self.flat}"


class Moved(nn.Module):
    """Channels in another order: rolled, reversed, or by a list."""

    def __init__(self, how: str, order: list[int]) -> None:
        super().__init__()
        self.how = how
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "roll":
            return torch.roll(x, self.order[0], 1)
        if self.how == "flip":
            return x.flip(1)
        return x[:, self.order]

    def extra_repr(self) -> str:
        return f"{self.how}, {self.order}"


class ChannelGate(nn.Module):
    """Squeeze and excite, by convolutions or linear layers."""

    def __init__(self, channels: int, hidden: int, *, linear: bool, last: nn.Module) -> None:
        super().__init__()
        self.linear = linear
        self.reduce: nn.Module = (
            nn.Linear(channels, hidden) if linear else nn.Conv2d(channels, hidden, 1)
        )
        self.expand: nn.Module = (
            nn.Linear(hidden, channels) if linear else nn.Conv2d(hidden, channels, 1)
        )
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=not self.linear)
        scale = self.last(self.expand(F.relu(self.reduce(pooled))))
        return x * (scale[:, :, None, None] if self.linear else scale)


class LocalChannelGate(nn.Module):
    """A gate per channel from its neighbours (ECA)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3)).unsqueeze(1)
        return x * torch.sigmoid(self.mix(pooled)).transpose(1, 2).unsqueeze(-1)


class PixelGate(nn.Module):
    """A gate per pixel from mean and maximum over the channels (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.mix(pooled))


class LearnedPixelGate(nn.Module):
    """A gate per pixel from convolutions."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.score = nn.Conv2d(hidden, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.score(F.relu(self.reduce(x))))


class PixelAttention(nn.Module):
    """Every pixel is a mean of all, weighted by products of keys and queries."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, hidden, 1)
        self.key = nn.Conv2d(channels, hidden, 1)
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2)
        key = self.key(x).flatten(2)
        value = self.value(x).flatten(2)
        weights = (query.transpose(1, 2) @ key / query.shape[1] ** 0.5).softmax(-1)
        return x + (value @ weights.transpose(1, 2)).view_as(x)


class Scale(nn.Module):
    """A scale and a shift per channel, a module of its own."""

    def __init__(self, channels: int, *, shifts: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if shifts else None

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.weight[:, None, None]
        return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, shifts={self.bias is not None}"


class ScaledInside(nn.Module):
    """A convolution with a scale and perhaps a shift in the same forward pass."""

    def __init__(self, conv: nn.Module, channels: int, *, shifts: bool) -> None:
        super().__init__()
        self.conv = conv
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1)) if shifts else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) * self.scale
        return y if self.shift is None else y + self.shift


class ChannelsLast(nn.Module):
    """Modules for tensors whose channels are the last axis."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Padded(nn.Module):
    """Channels of zeros before and behind."""

    def __init__(self, before: int, behind: int) -> None:
        super().__init__()
        self.edges = [0, 0, 0, 0, before, behind]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.edges)

    def extra_repr(self) -> str:
        return f"{self.edges[4:]}"


class Written(nn.Module):
    """A part of the channels added to in place."""

    def __init__(self, body: nn.Module, first: int, last: int) -> None:
        super().__init__()
        self.body = body
        self.first = first
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y[:, self.first : self.last] += x[:, self.first : self.last]
        return y

    def extra_repr(self) -> str:
        return f"{self.first}:{self.last}"


class Twice(nn.Module):
    """A module used twice."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(F.relu(self.body(x)))


class Largest(nn.Module):
    """The largest of a few channels (maxout)."""

    def __init__(self, count: int, *, outer: bool) -> None:
        super().__init__()
        self.count = count
        self.outer = outer

    def forward(self, x: Tensor) -> Tensor:
        if self.outer:
            return x.unflatten(1, (self.count, -1)).amax(1)
        return x.unflatten(1, (-1, self.count)).amax(2)

    def extra_repr(self) -> str:
        return f"{self.count}, outer={self.outer}"


class Stacked(nn.Module):
    """Two ways stacked, and their sum weighted by a softmax over the ways."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left = left
        self.right = right

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([self.left(x), self.right(x)], 1)
        return (both * both.mean((3, 4), keepdim=True).softmax(1)).sum(1)


class Product(Stacked):
    """Product of two ways."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.left(x)) * self.right(x)


class Resized(nn.Module):
    """Interpolation by a factor or to a size."""

    def __init__(self, mode: str, *, size: int | None) -> None:
        super().__init__()
        self.mode = mode
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        corners = None if self.mode == "nearest" else False
        if self.size is None:
            return F.interpolate(x, scale_factor=2, mode=self.mode, align_corners=corners)
        return F.interpolate(x, size=self.size, mode=self.mode, align_corners=corners)

    def extra_repr(self) -> str:
        return f"{self.mode}, size={self.size}"


class Skip(nn.Module):
    """An earlier output joined with this one: summed, concatenated, or gated by it."""

    def __init__(self, how: str, project: nn.Module, score: nn.Module) -> None:
        super().__init__()
        self.how = how
        self.project = project
        self.score = score

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        if earlier.shape[2:] != x.shape[2:]:
            earlier = F.interpolate(earlier, size=x.shape[2:], mode="nearest")
        if self.how == "concat":
            return torch.cat([earlier, x], 1)
        if self.how == "sum":
            return x + self.project(earlier)
        return x * torch.sigmoid(self.score(F.relu(x + self.project(earlier))))

    def extra_repr(self) -> str:
        return self.how


class Head(nn.Module):
    """Numbers from maps: pooled or flattened, then linear layers."""

    def __init__(self, pool: str, body: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        if self.pool == "mean":
            x = x.mean((2, 3))
        elif self.pool == "max":
            x = F.adaptive_max_pool2d(x, 1).view(len(x), -1)
        elif self.pool == "average":
            x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        elif self.pool == "flatten":
            x = x.flatten(1)
        return self.body(x)

    def extra_repr(self) -> str:
        return self.pool


class RandomNetwork(nn.Module):
    """Blocks in a row, some joined with an earlier output, and heads behind some of them."""

    def __init__(
        self, blocks: Sequence[tuple[nn.Module, int | None]], heads: dict[int, nn.Module], form: str
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block for block, _ in blocks)
        self.sources = [source for _, source in blocks]
        self.heads = nn.ModuleDict({str(place): head for place, head in heads.items()})
        self.form = form

    def forward(self, x: Tensor) -> Any:
        made: list[Tensor] = []
        for block, source in zip(self.blocks, self.sources, strict=True):
            x = block(x) if source is None else block(x, made[source])
            made.append(x)
        outputs = {name: head(made[int(name)]) for name, head in self.heads.items()}
        if self.form == "dict":
            return outputs
        if self.form == "mixed":
            return {"outputs": list(outputs.values()), "loss": None, "stride": 2}
        values = tuple(outputs.values())
        return values if len(values) > 1 else values[0]

    def extra_repr(self) -> str:
        return f"sources={self.sources}, form={self.form}"
