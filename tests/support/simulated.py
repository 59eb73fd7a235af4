"""Small weightless search spaces, and a processor that computes in blocks of 16 channels
(docs/design.md, fact 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper

from latency_service.spaces.layers import layers
from latency_service.spaces.schemas import AxisSlice, Manifest, Segment, ShapeValue, WidthGroup
from latency_service.spaces.slicing import SearchSpace, build_space
from latency_service.spaces.weightless import make_weightless

#: An activation: its name in the graph and the runs of channels on its channel axis, (group or -1,
#: count).
Activation = tuple[str, list[tuple[int, int]]]


class Network:
    """Layers added one after the other, each given the group that its output channels belong to."""

    def __init__(self, *, pixels: int = 16, inputs: int = 3) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.slices: list[AxisSlice] = []
        self.values: list[ShapeValue] = []
        self.groups: list[WidthGroup] = []
        self.pixels = pixels
        self.inputs = inputs
        self.start: Activation = ("x", [(-1, inputs)])

    def group(self, width: int, minimum: int = 4) -> int:
        name = f"g{len(self.groups)}"
        self.groups.append(WidthGroup(name=name, width=width, minimum=minimum, members=[name]))
        return len(self.groups) - 1

    def conv(
        self, source: Activation, group: int, *, kernel: int = 3, stride: int = 1
    ) -> Activation:
        name = f"conv{len(self.nodes)}"
        runs = [(group, self.groups[group].width)]
        self._weight(f"{name}.w", [runs, source[1]], kernel, kernel)
        self._weight(f"{name}.b", [runs])
        return self._node("Conv", name, [source[0], f"{name}.w", f"{name}.b"], kernel, stride), runs

    def depthwise(self, source: Activation) -> Activation:
        name = f"conv{len(self.nodes)}"
        channels = sum(count for _, count in source[1])
        self._weight(f"{name}.w", [source[1], [(-1, 1)]], 3, 3)
        self.values.append(ShapeValue(node=name, attribute="group", segments=_segments(source[1])))
        return self._node("Conv", name, [source[0], f"{name}.w"], 3, 1, group=channels), source[1]

    def add(self, first: Activation, second: Activation) -> Activation:
        assert first[1] == second[1]
        name = f"add{len(self.nodes)}"
        self.nodes.append(helper.make_node("Add", [first[0], second[0]], [name], name=name))
        return name, first[1]

    def concat(self, first: Activation, second: Activation) -> Activation:
        name = f"concat{len(self.nodes)}"
        self.nodes.append(
            helper.make_node("Concat", [first[0], second[0]], [name], name=name, axis=1)
        )
        return name, first[1] + second[1]

    def space(self, last: Activation, classes: int = 10) -> SearchSpace:
        self.nodes.append(helper.make_node("GlobalAveragePool", [last[0]], ["pooled"], name="pool"))
        self.nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
        self._weight("head.w", [[(-1, classes)], last[1]])
        self.nodes.append(
            helper.make_node("Gemm", ["flat", "head.w"], ["y"], name="head", transB=1)
        )
        shape = ["batch", self.inputs, self.pixels, self.pixels]
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        manifest = Manifest(
            name="network", groups=self.groups, slices=self.slices, values=self.values
        )
        return build_space(make_weightless(model), manifest)

    def _weight(self, name: str, axes: list[list[tuple[int, int]]], *kernel: int) -> None:
        dims = [*(sum(count for _, count in runs) for runs in axes), *kernel]
        self.weights.append(
            helper.make_tensor(name, TensorProto.FLOAT, dims, np.zeros(dims, np.float32).ravel())
        )
        for axis, runs in enumerate(axes):
            if any(group >= 0 for group, _ in runs):
                self.slices.append(AxisSlice(initializer=name, axis=axis, segments=_segments(runs)))

    def _node(
        self, kind: str, name: str, inputs: list[str], kernel: int, stride: int, **attributes: Any
    ) -> str:
        pads = [kernel // 2] * 4
        shape = {"kernel_shape": [kernel] * 2, "pads": pads, "strides": [stride] * 2}
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **shape, **attributes))
        return name


def _segments(runs: list[tuple[int, int]]) -> list[Segment]:
    return [Segment(group=group, count=count) for group, count in runs]


def residual_space(widths: tuple[int, ...] = (16, 32, 64), blocks: int = 2) -> SearchSpace:
    """A CIFAR-like ResNet: one group for each stage and one inside each block."""
    net = Network()
    x = net.conv(net.start, net.group(widths[0]))
    for stage, width in enumerate(widths):
        group = 0 if stage == 0 else net.group(width)
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            branch = net.conv(net.conv(x, net.group(width), stride=stride), group)
            x = net.add(branch, net.conv(x, group, kernel=1, stride=stride) if stride == 2 else x)
    return net.space(x)


def mixed_space() -> SearchSpace:
    """Depthwise layers, a concatenation of two groups, and a layer that reads both."""
    net = Network()
    x = net.conv(net.start, net.group(24))
    wide = net.depthwise(net.conv(x, net.group(96), kernel=1))
    x = net.concat(net.conv(wide, net.group(40), kernel=1), x)
    return net.space(net.conv(x, net.group(48), stride=2))


def simulated_ms(space: SearchSpace, widths: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Latency [N] of `widths` [N, G] on a processor that fills blocks of 16 outputs and 4 inputs,
    and moves bytes.
    """
    at = np.asarray(widths, dtype=np.float64)
    total = np.full(len(at), 0.01)
    for layer in layers(space):
        c_in = layer.c_in.at(at)
        c_out = layer.c_out.at(at)
        filled = (
            np.ceil(c_out / 16)
            * 16
            * np.ceil(layer.depth.at(at) / 4)
            * 4
            * layer.taps
            * layer.pixels_out
        )
        moved = c_in * layer.pixels_in + c_out * layer.pixels_out + layer.parameters(at)
        total += 0.002 + filled / 4e7 + moved / 2e6
    return total


def lattice_of(space: SearchSpace, step: int = 4) -> list[list[int]]:
    """Multiples of `step` from each group's minimum up, and its full width [G][...]."""
    return [
        sorted({*(w for w in range(step, group.width, step) if w >= group.minimum), group.width})
        for group in space.groups
    ]


def sampled(
    space: SearchSpace, count: int, *, seed: int, step: int = 4, least: float = 0.0
) -> npt.NDArray[np.int64]:
    """Different widths [count, G] on the lattice, around levels of at least `least`; the dense ones
    first.
    """
    rng = np.random.default_rng(seed)
    choices = [np.array(widths) for widths in lattice_of(space, step)]
    full = np.array(space.full_widths, dtype=np.float64)
    found = {tuple(space.full_widths): None}
    assert np.prod([float(len(c)) for c in choices]) > 2 * count, (
        "the lattice holds too few architectures"
    )
    while len(found) < count:
        level = np.clip(rng.uniform(least, 1.05) + 0.25 * rng.standard_normal(len(full)), least, 1)
        found.setdefault(
            tuple(
                int(c[np.abs(c - t).argmin()]) for c, t in zip(choices, level * full, strict=True)
            )
        )
    return np.array(list(found), dtype=np.int64)
