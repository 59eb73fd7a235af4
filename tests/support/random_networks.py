"""Hypothesis strategies of small networks, composed at random of the blocks that users take.

A strategy gives modules, so that a failing example is printed, and shrunk, as a network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from latency_service.core.arrays import Ints
from latency_service.spaces.slicing import SearchSpace
from tests.support import random_blocks as blocks
from tests.support.networks import randomised

_WIDTHS = (4, 6, 8, 12)
#: Norms by frequency: no channel before a layer norm can be removed.
_NORMS = ("batch",) * 5 + ("plain",) * 2 + ("group", "instance", "layer")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network with random weights and its input."""

    model: nn.Module
    #: Images [2, 3, side, side].
    example: Tensor
    #: Seed of the channels that are kept.
    seed: int


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Shape of the maps between two blocks."""

    channels: int
    side: int


Step = tuple[nn.Module, Maps]


def random_keep(space: SearchSpace, seed: int) -> list[Ints]:
    """Channels to keep in groups of random widths, all of them in some groups [G][width]."""
    random = np.random.default_rng(seed)
    return [
        np.sort(
            random.choice(
                group.width,
                int(random.integers(group.minimum, group.width + 1)),
                replace=False,
            )
        )
        for group in space.groups
    ]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Networks of two to eight blocks with one to three outputs."""
    side = draw(st.sampled_from((8, 12, 16)))
    maps = Maps(channels=draw(st.sampled_from(_WIDTHS)), side=side)
    steps: list[tuple[nn.Module, int | None]] = [(_unit(draw, 3, maps.channels), None)]
    shapes = [maps]
    for _ in range(draw(st.integers(1, 7))):
        block, source, maps = _next_block(draw, shapes)
        steps.append((block, source))
        shapes.append(maps)
    places = {len(steps) - 1}
    if draw(st.integers(0, 3)) == 0:
        places |= draw(st.sets(st.integers(0, len(steps) - 1), max_size=2))
    heads = {place: _head(draw, shapes[place]) for place in sorted(places)}
    form = draw(st.sampled_from(("tuple", "tuple", "dict", "mixed")))
    seed = draw(st.integers(0, 999))
    example = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))
    model = randomised(blocks.RandomNetwork(steps, heads, form), seed)
    return Case(model=model, example=example, seed=seed)


def _next_block(draw: st.DrawFn, shapes: list[Maps]) -> tuple[nn.Module, int | None, Maps]:
    x = shapes[-1]
    if len(shapes) > 1 and draw(st.integers(0, 5)) == 0:
        source = draw(st.integers(0, len(shapes) - 2))
        block, after = _skip(draw, x, shapes[source])
        return block, source, after
    block, after = draw(st.sampled_from(_BLOCKS))(draw, x)
    return block, None, after


def _same(kernel: int, dilation: int = 1) -> int:
    return dilation * (kernel // 2)


def _conv(
    draw: st.DrawFn, channels: int, out: int, *, stride: int = 1, kernel: int | None = None
) -> nn.Conv2d:
    """A convolution, grouped where the widths allow it."""
    size = draw(st.sampled_from((1, 3))) if kernel is None else kernel
    possible = [n for n in (2, 3, 4) if channels % n == 0 and out % n == 0]
    groups = draw(st.sampled_from([1, 1, 1, *possible]))
    dilation = draw(st.sampled_from((1, 1, 2))) if size > 1 else 1
    return nn.Conv2d(
        channels,
        out,
        size,
        stride,
        _same(size, dilation),
        dilation,
        groups,
        draw(st.booleans()),
        draw(st.sampled_from(("zeros", "zeros", "zeros", "reflect"))) if size > 1 else "zeros",
    )


def _norm(draw: st.DrawFn, channels: int) -> nn.Module:
    kind = draw(st.sampled_from(_NORMS))
    affine = draw(st.integers(0, 3)) > 0
    if kind == "group":
        groups = draw(st.sampled_from([n for n in (1, 2, 3, 4) if channels % n == 0]))
        return nn.GroupNorm(groups, channels, affine=affine)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=affine, track_running_stats=draw(st.booleans()))
    if kind == "layer":
        return blocks.ChannelsLast(nn.LayerNorm(channels, elementwise_affine=affine))
    return nn.BatchNorm2d(channels, affine=affine) if kind == "batch" else nn.Identity()


def _activation(draw: st.DrawFn, channels: int) -> nn.Module:
    kinds: list[Callable[[], nn.Module]] = [
        nn.ReLU,
        nn.ReLU,
        nn.SiLU,
        nn.Hardswish,
        nn.GELU,
        nn.ReLU6,
        nn.Mish,
        lambda: nn.LeakyReLU(0.1),
        nn.ELU,
        nn.Tanh,
        nn.PReLU,
        lambda: nn.PReLU(channels),
        nn.Identity,
        nn.Sigmoid,
        nn.Softplus,
        nn.Hardsigmoid,
    ]
    return draw(st.sampled_from(kinds))()


def _unit(draw: st.DrawFn, channels: int, out: int, stride: int = 1) -> nn.Module:
    """A convolution with norm and activation, in one of two orders."""
    conv = _conv(draw, channels, out, stride=stride)
    if draw(st.integers(0, 4)) == 0:
        return nn.Sequential(_norm(draw, channels), _activation(draw, channels), conv)
    return nn.Sequential(conv, _norm(draw, out), _activation(draw, out))


def _width(draw: st.DrawFn, multiple: int = 1) -> int:
    return draw(st.sampled_from([width for width in _WIDTHS if width % multiple == 0]))


def _stride(draw: st.DrawFn, x: Maps) -> int:
    return draw(st.sampled_from((1, 2))) if x.side >= 4 and x.side % 2 == 0 else 1


def _convolution(draw: st.DrawFn, x: Maps) -> Step:
    out = _width(draw)
    stride = _stride(draw, x)
    return _unit(draw, x.channels, out, stride), Maps(channels=out, side=x.side // stride)


def _depthwise(draw: st.DrawFn, x: Maps) -> Step:
    out = x.channels * draw(st.sampled_from((1, 1, 2)))
    stride = _stride(draw, x)
    conv = nn.Conv2d(x.channels, out, 3, stride, 1, groups=x.channels, bias=draw(st.booleans()))
    block = nn.Sequential(conv, _norm(draw, out), _activation(draw, out))
    return block, Maps(channels=out, side=x.side // stride)


def _residual(draw: st.DrawFn, x: Maps) -> Step:
    hidden = _width(draw)
    stride = _stride(draw, x)
    out = x.channels if stride == 1 and draw(st.booleans()) else _width(draw)
    body = nn.Sequential(_unit(draw, x.channels, hidden, stride), _unit(draw, hidden, out))
    plain = stride == 1 and out == x.channels
    shortcut = nn.Identity() if plain else nn.Conv2d(x.channels, out, 1, stride)
    return blocks.Residual(body, shortcut), Maps(channels=out, side=x.side // stride)


def _branches(draw: st.DrawFn, x: Maps) -> Step:
    widths = draw(st.lists(st.sampled_from(_WIDTHS), min_size=1, max_size=2))
    ways = [_unit(draw, x.channels, width) for width in widths]
    if len(ways) == 1 or draw(st.booleans()):
        return (
            blocks.Branches([nn.Identity(), *ways]),
            Maps(channels=x.channels + sum(widths), side=x.side),
        )
    return blocks.Branches(ways), Maps(channels=sum(widths), side=x.side)


def _parts(draw: st.DrawFn, x: Maps) -> Step:
    first = draw(st.integers(1, x.channels - 1))
    out = draw(st.sampled_from((first, *_WIDTHS)))
    block = blocks.Parts(
        [first, x.channels - first],
        _unit(draw, first, out),
        by_slices=draw(st.booleans()),
        turned=draw(st.booleans()),
    )
    return block, Maps(channels=x.channels - first + out, side=x.side)


def _interleaved(draw: st.DrawFn, x: Maps) -> Step:
    first = (x.channels + 1) // 2
    block = blocks.Interleaved(_unit(draw, first, first))
    return block, x


def _gated_halves(draw: st.DrawFn, x: Maps) -> Step:
    out = _width(draw)
    block = nn.Sequential(_conv(draw, x.channels, 2 * out), blocks.GatedHalves())
    return block, Maps(channels=out, side=x.side)


def _shuffle(draw: st.DrawFn, x: Maps) -> Step:
    possible = [n for n in (2, 3, 4) if x.channels % n == 0] or [1]
    return blocks.Shuffle(draw(st.sampled_from(possible)), flat=draw(st.booleans())), x


def _moved(draw: st.DrawFn, x: Maps) -> Step:
    how = draw(st.sampled_from(("roll", "flip", "list")))
    order = draw(st.permutations(range(x.channels)))
    return blocks.Moved(how, list(order)), x


def _channel_gate(draw: st.DrawFn, x: Maps) -> Step:
    last = draw(st.sampled_from((nn.Sigmoid, nn.Hardsigmoid, nn.Tanh)))()
    hidden = draw(st.sampled_from((2, 4, 6)))
    return blocks.ChannelGate(x.channels, hidden, linear=draw(st.booleans()), last=last), x


def _pixel_gate(draw: st.DrawFn, x: Maps) -> Step:
    kinds: list[Callable[[], nn.Module]] = [
        blocks.PixelGate,
        blocks.LocalChannelGate,
        lambda: blocks.LearnedPixelGate(x.channels, _width(draw)),
        lambda: blocks.LearnedPixelGate(x.channels, _width(draw)),
        lambda: blocks.PixelAttention(x.channels, _width(draw)),
    ]
    return draw(st.sampled_from(kinds))(), x


def _pool(draw: st.DrawFn, x: Maps) -> Step:
    if x.side < 4 or x.side % 2:
        return nn.AvgPool2d(3, 1, 1, count_include_pad=draw(st.booleans())), x
    kinds: list[Callable[[], nn.Module]] = [
        lambda: nn.MaxPool2d(2),
        lambda: nn.MaxPool2d(3, 2, 1),
        lambda: nn.AvgPool2d(2),
        lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        lambda: nn.AdaptiveAvgPool2d(x.side // 2),
        lambda: nn.MaxPool2d(2, ceil_mode=True),
    ]
    return draw(st.sampled_from(kinds))(), Maps(channels=x.channels, side=x.side // 2)


def _upsampling(draw: st.DrawFn, x: Maps) -> Step:
    if x.side > 16:
        return nn.Dropout2d(), x
    after = Maps(channels=x.channels, side=2 * x.side)
    kind = draw(st.sampled_from(("nearest", "bilinear", "transposed", "pixels")))
    if kind == "transposed":
        out = _width(draw)
        possible = [n for n in (2, 3, 4) if x.channels % n == 0 and out % n == 0]
        groups = draw(st.sampled_from([1, 1, *possible]))
        conv = nn.ConvTranspose2d(x.channels, out, 2, 2, groups=groups, bias=draw(st.booleans()))
        return nn.Sequential(conv, _norm(draw, out)), Maps(channels=out, side=2 * x.side)
    if kind == "pixels":
        out = draw(st.sampled_from((3, 4)))
        block = nn.Sequential(_conv(draw, x.channels, 4 * out), nn.PixelShuffle(2))
        return block, Maps(channels=out, side=2 * x.side)
    return blocks.Resized(kind, size=draw(st.sampled_from((None, 2 * x.side)))), after


def _pixels_to_channels(draw: st.DrawFn, x: Maps) -> Step:
    if x.side % 2 or x.side < 4:
        return nn.Identity(), x
    out = _width(draw)
    block = nn.Sequential(nn.PixelUnshuffle(2), _unit(draw, 4 * x.channels, out))
    return block, Maps(channels=out, side=x.side // 2)


def _scale(draw: st.DrawFn, x: Maps) -> Step:
    shifts = draw(st.booleans())
    if draw(st.booleans()):
        return blocks.Scale(x.channels, shifts=shifts), x
    out = _width(draw)
    block = blocks.ScaledInside(_conv(draw, x.channels, out), out, shifts=shifts)
    return block, Maps(channels=out, side=x.side)


def _last_axis(draw: st.DrawFn, x: Maps) -> Step:
    hidden = _width(draw)
    body = nn.Sequential(
        nn.Linear(x.channels, hidden),
        _activation(draw, 1),
        nn.Linear(hidden, x.channels, bias=draw(st.booleans())),
    )
    return blocks.Residual(blocks.ChannelsLast(body), nn.Identity()), x


def _padded(draw: st.DrawFn, x: Maps) -> Step:
    before, behind = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    return blocks.Padded(before, behind), Maps(channels=x.channels + before + behind, side=x.side)


def _written(draw: st.DrawFn, x: Maps) -> Step:
    first = draw(st.integers(0, x.channels - 1))
    last = draw(st.integers(first + 1, x.channels))
    return blocks.Written(_conv(draw, x.channels, x.channels), first, last), x


def _twice(draw: st.DrawFn, x: Maps) -> Step:
    return blocks.Twice(_conv(draw, x.channels, x.channels)), x


def _largest(draw: st.DrawFn, x: Maps) -> Step:
    out = _width(draw)
    count = draw(st.sampled_from((2, 3)))
    conv = _conv(draw, x.channels, count * out)
    block = nn.Sequential(conv, blocks.Largest(count, outer=draw(st.booleans())))
    return block, Maps(channels=out, side=x.side)


def _two_ways(draw: st.DrawFn, x: Maps) -> Step:
    out = _width(draw)
    kind: Any = draw(st.sampled_from((blocks.Stacked, blocks.Product)))
    block = kind(_unit(draw, x.channels, out), _unit(draw, x.channels, out))
    return block, Maps(channels=out, side=x.side)


def _skip(draw: st.DrawFn, x: Maps, earlier: Maps) -> Step:
    how = draw(st.sampled_from(("sum", "concat", "gate")))
    same = earlier.channels == x.channels and draw(st.booleans())
    project = nn.Identity() if same else nn.Conv2d(earlier.channels, x.channels, 1)
    if how == "concat":
        block = blocks.Skip(how, nn.Identity(), nn.Identity())
        return block, Maps(channels=earlier.channels + x.channels, side=x.side)
    score = nn.Conv2d(x.channels, 1, 1) if how == "gate" else nn.Identity()
    return blocks.Skip(how, project, score), x


_BLOCKS = (
    _convolution,
    _convolution,
    _depthwise,
    _residual,
    _residual,
    _branches,
    _parts,
    _interleaved,
    _gated_halves,
    _shuffle,
    _moved,
    _channel_gate,
    _pixel_gate,
    _pool,
    _upsampling,
    _pixels_to_channels,
    _scale,
    _last_axis,
    _padded,
    _written,
    _twice,
    _largest,
    _two_ways,
)


def _head(draw: st.DrawFn, x: Maps) -> nn.Module:
    pool = draw(st.sampled_from(("mean", "max", "average", "flatten", "map")))
    if pool == "map":
        return blocks.Head(pool, nn.Conv2d(x.channels, draw(st.sampled_from((1, 3))), 1))
    size = x.channels * x.side**2 if pool == "flatten" else x.channels
    if draw(st.booleans()):
        return blocks.Head(pool, nn.Linear(size, 5))
    hidden = _width(draw)
    norm: Any = draw(st.sampled_from((nn.BatchNorm1d, nn.LayerNorm, lambda _: nn.Identity())))
    body = nn.Sequential(nn.Linear(size, hidden), norm(hidden), nn.ReLU(), nn.Linear(hidden, 5))
    return blocks.Head(pool, body)
