"""A network's graph as boxes in rows by depth: weighted layers, and where branches meet. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from onnx import NodeProto
from pydantic import BaseModel, Field

from latency_service.core.arrays import Floats
from latency_service.spaces.layers import Layer, layers
from latency_service.spaces.slicing import SearchSpace

#: Operators that are drawn where several branches meet in them.
_MEETING = ("Add", "Sum", "Mul", "Sub", "Concat")
#: Most boxes that are drawn; of more only the table is shown.
MOST_BOXES = 500


class Box(BaseModel):
    """A layer, or a place where branches meet."""

    name: str
    kind: str = Field(description="of the layer, or the operator in which branches meet")
    groups: list[int] = Field(description="width groups that its output channels follow")
    channels: int | None = Field(description="of its output, at full width")
    detail: str = Field(description="kernel, channels and size in words")
    row: int
    column: int


class Edge(BaseModel):
    """From one box to another, by their indices."""

    source: int
    target: int


class Graph(BaseModel):
    """The network, top to bottom."""

    boxes: list[Box]
    edges: list[Edge]
    rows: int
    columns: int = Field(description="of the widest row")
    nodes: int = Field(description="operators in the file")


def graph_of(space: SearchSpace) -> Graph:
    """Boxes in rows: each lies one row below the lowest box that it reads from.

    Operators without weights are left out, but for those in which branches meet.

    Raises:
        SpaceError: the shapes at a layer cannot be inferred.
    """
    drawing = _Drawing(_layers_by_node(space), space.full_widths)
    weights = {tensor.name for tensor in space.model.graph.initializer}
    for entry in space.model.graph.input:
        if entry.name not in weights:
            drawing.add_input(entry.name)
    for node in space.model.graph.node:
        drawing.add(node)
    return drawing.graph(nodes=len(space.model.graph.node))


def _layers_by_node(space: SearchSpace) -> dict[str, Layer]:
    """Layers by the name of their weights."""
    return {layer.name: layer for layer in layers(space)}


@dataclass
class _Drawing:
    layers: Mapping[str, Layer]
    full: list[int]
    boxes: list[Box] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    #: Boxes that each tensor comes from, directly or through operators that are not drawn.
    origins: dict[str, frozenset[int]] = field(default_factory=dict)
    #: Weights by the name of their transpose.
    turned: dict[str, str] = field(default_factory=dict)

    def add_input(self, name: str) -> None:
        box = Box(
            name=name, kind="input", groups=[], channels=None, detail="input", row=0, column=0
        )
        self.origins[name] = frozenset([self._place(box, frozenset())])

    def add(self, node: NodeProto) -> None:
        layer = self._layer_of(node)
        before = self._before(node.input)
        if layer is not None:
            made = frozenset([self._place(self._layer_box(node, layer), before)])
        elif self._meets(node):
            made = frozenset([self._place(_meeting_box(node), before)])
        else:
            made = before
        for name in node.output:
            self.origins[name] = made

    def graph(self, *, nodes: int) -> Graph:
        counts: dict[int, int] = {}
        for box in self.boxes:
            box.column = counts.get(box.row, 0)
            counts[box.row] = box.column + 1
        return Graph(
            boxes=self.boxes,
            edges=self.edges,
            rows=len(counts),
            columns=max(counts.values(), default=0),
            nodes=nodes,
        )

    def _layer_of(self, node: NodeProto) -> Layer | None:
        if node.op_type == "Transpose":
            self.turned[node.output[0]] = node.input[0]
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or len(node.input) < 2:
            return None
        return self.layers.get(self.turned.get(node.input[1], node.input[1]))

    def _before(self, names: Iterable[str]) -> frozenset[int]:
        return frozenset().union(*(self.origins.get(name, frozenset()) for name in names))

    def _meets(self, node: NodeProto) -> bool:
        """Whether branches from different boxes meet here."""
        known = {self.origins[name] for name in node.input if self.origins.get(name)}
        return node.op_type in _MEETING and len(known) > 1

    def _place(self, box: Box, before: frozenset[int]) -> int:
        index = len(self.boxes)
        box.row = max((self.boxes[at].row + 1 for at in before), default=0)
        self.boxes.append(box)
        self.edges += [Edge(source=at, target=index) for at in sorted(before)]
        return index

    def _layer_box(self, node: NodeProto, layer: Layer) -> Box:
        out = _at_full(layer.c_out.coefficients, layer.c_out.constant, self.full)
        taken = _at_full(layer.c_in.coefficients, layer.c_in.constant, self.full)
        return Box(
            name=layer.name.removesuffix(".weight"),
            kind=layer.kind,
            groups=[g for g, share in enumerate(layer.c_out.coefficients) if share],
            channels=out,
            detail=f"{layer.kind}, {layer.taps} taps, {taken} to {out} channels"
            f"{_stride_text(layer)}, {layer.pixels_out} pixels",
            row=0,
            column=0,
        )


def _meeting_box(node: NodeProto) -> Box:
    return Box(
        name=node.op_type.lower(),
        kind="meeting",
        groups=[],
        channels=None,
        detail=f"branches meet: {node.op_type}",
        row=0,
        column=0,
    )


def _at_full(coefficients: Floats, constant: float, full: list[int]) -> int:
    pairs = zip(coefficients, full, strict=True)
    return round(constant + sum(float(share) * width for share, width in pairs))


def _stride_text(layer: Layer) -> str:
    return f", stride {layer.stride}" if layer.stride > 1 else ""
