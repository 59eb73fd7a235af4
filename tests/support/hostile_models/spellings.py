"""Names that are endless, empty, or made to be misread."""

from __future__ import annotations

from collections.abc import Callable

from onnx import ModelProto

from tests.support.hostile_models.spoiling import node, spoilt


def node_named(name: str) -> Callable[[], bytes]:
    """A node of this name, which nothing makes the input of."""

    def spoil(model: ModelProto) -> None:
        node(model, "third").input[0] = "nobody"
        node(model, "third").name = name

    return spoilt(spoil)


def tensor_of_a_long_name(model: ModelProto) -> None:
    node(model, "last").output.append("x" * 8_000_000)


def operator_of_a_long_name(model: ModelProto) -> None:
    node(model, "last").op_type = "Conv" * 5000


def long_documentation(model: ModelProto) -> None:
    model.graph.doc_string = "x" * 8_000_000


def input_without_a_name(model: ModelProto) -> None:
    model.graph.input[0].name = ""


def weight_without_a_name(model: ModelProto) -> None:
    model.graph.initializer[0].name = ""


def name_of_two_thousand_characters(model: ModelProto) -> None:
    node(model, "last").name = "x" * 2000


def thousands_of_metadata(model: ModelProto) -> None:
    for index in range(300_000):
        model.metadata_props.add(key=str(index))


KINDS = {
    "name with NUL": node_named("a\x00b"),
    "name of control characters": node_named("\x1b[2J\x07\r\n"),
    "name read from right to left": node_named("\u202e\ufffe" * 20),
    "name that is a path": node_named("../../../../etc/passwd"),
    "name that is a script": node_named("<script>alert(1)</script>"),
    "tensor named by 8 MB": spoilt(tensor_of_a_long_name),
    "operator named by 20 kB": spoilt(operator_of_a_long_name),
    "documentation of 8 MB": spoilt(long_documentation),
    "input without a name": spoilt(input_without_a_name),
    "weight without a name": spoilt(weight_without_a_name),
    "name of 2,000 characters": spoilt(name_of_two_thousand_characters),
    "300,000 entries of metadata": spoilt(thousands_of_metadata),
}
