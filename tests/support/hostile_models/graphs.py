"""Graphs with parts that no search space may have, or without those that it must have."""

from __future__ import annotations

from onnx import AttributeProto, ModelProto, TensorProto, helper

from tests.support.hostile_models.spoiling import add_nodes, make, node, spoilt, weight


def no_opset(model: ModelProto) -> None:
    del model.opset_import[:]


def opset(version: int) -> object:
    def spoil(model: ModelProto) -> None:
        model.opset_import[0].version = version

    return spoilt(spoil)


def two_opsets(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 11))


def nested_functions(model: ModelProto) -> None:
    """Each function calls the one before twice: 2^30 nodes when they are inlined."""
    model.opset_import.append(helper.make_opsetid("own", 1))
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    for level in range(30):
        inner = "Relu" if level == 0 else f"f{level - 1}"
        domain = "" if level == 0 else "own"
        body = [
            helper.make_node(inner, ["a"], ["b"], domain=domain),
            helper.make_node(inner, ["b"], ["c"], domain=domain),
        ]
        model.functions.append(
            helper.make_function("own", f"f{level}", ["a"], ["c"], body, imports)
        )
    model.graph.node.append(helper.make_node("f29", ["out"], ["never"], "call", domain="own"))


def foreign_operator(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node.append(helper.make_node("Steal", ["x"], ["y"], "s", domain="com.example"))


def unknown_operator(model: ModelProto) -> None:
    add_nodes(model, make("Conw", ["x"], "unknown"))


def subgraph(model: ModelProto) -> None:
    ends = [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])]
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "b", [], ends)
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    add_nodes(model, make("If", ["yes"], "chosen", then_branch=branch, else_branch=branch))


def training_graph(model: ModelProto) -> None:
    model.training_info.add().algorithm.CopyFrom(model.graph)


def sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.add().dims.extend([1 << 40])


def cycle(model: ModelProto) -> None:
    node(model, "second").input[0] = "y2"


def self_loop(model: ModelProto) -> None:
    node(model, "first").input[0] = "y0"


def wrong_order(model: ModelProto) -> None:
    nodes = list(reversed(model.graph.node))
    copies = [type(each).FromString(each.SerializeToString()) for each in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def gap(model: ModelProto) -> None:
    node(model, "third").input[0] = "nobody"


def no_output_made(model: ModelProto) -> None:
    model.graph.output[0].name = "nobody"


def no_outputs(model: ModelProto) -> None:
    del model.graph.output[:]


def no_nodes(model: ModelProto) -> None:
    del model.graph.node[:]


def no_inputs(model: ModelProto) -> None:
    del model.graph.input[:]


def conv_without_output(model: ModelProto) -> None:
    del node(model, "third").output[:]


def conv_without_weight(model: ModelProto) -> None:
    del node(model, "third").input[1:]


def conv_of_ten_inputs(model: ModelProto) -> None:
    node(model, "third").input.extend(["b"] * 10)


def duplicate_nodes(model: ModelProto) -> None:
    node(model, "third").name = "first"


def duplicate_tensors(model: ModelProto) -> None:
    node(model, "third").output[0] = "y1"


def duplicate_weights(model: ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def output_named_as_a_weight(model: ModelProto) -> None:
    node(model, "third").output[0] = "a"


def attribute_twice(model: ModelProto) -> None:
    node(model, "first").attribute.append(node(model, "first").attribute[0])


def attribute_of_another_type(model: ModelProto) -> None:
    entry = AttributeProto(name="pads", type=AttributeProto.STRING, s=b"1111")
    node(model, "first").attribute[0].CopyFrom(entry)


def unknown_attribute(model: ModelProto) -> None:
    node(model, "first").attribute.append(helper.make_attribute("padz", [1]))


def reference_to_a_function_attribute(model: ModelProto) -> None:
    node(model, "first").attribute[0].ref_attr_name = "alpha"


def weight_in_a_file(model: ModelProto) -> None:
    weight(model, "a").external_data[0].value = "../../../../etc/passwd"


def weight_at_an_offset(model: ModelProto) -> None:
    weight(model, "a").external_data.add(key="offset", value="-1")


def constant_in_a_file(model: ModelProto) -> None:
    value = TensorProto(
        name="v", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL, dims=[4]
    )
    value.external_data.add(key="location", value="/etc/passwd")
    add_nodes(model, make("Constant", [], "constant", value=value))


def many_nodes(model: ModelProto) -> None:
    for index in range(20_000):
        model.graph.node.add(
            op_type="Relu", input=["x"], output=[f"many{index}"], name=f"many{index}"
        )


KINDS = {
    "no opset": spoilt(no_opset),
    "opset 0": opset(0),
    "opset of 2^63 - 1": opset(2**63 - 1),
    "negative opset": opset(-(2**40)),
    "two opsets": spoilt(two_opsets),
    "nested functions": spoilt(nested_functions),
    "foreign operator": spoilt(foreign_operator),
    "unknown operator": spoilt(unknown_operator),
    "subgraph": spoilt(subgraph),
    "training graph": spoilt(training_graph),
    "sparse initializer": spoilt(sparse),
    "cycle": spoilt(cycle),
    "self loop": spoilt(self_loop),
    "wrong order": spoilt(wrong_order),
    "gap": spoilt(gap),
    "output that nothing makes": spoilt(no_output_made),
    "no outputs": spoilt(no_outputs),
    "no nodes": spoilt(no_nodes),
    "no inputs": spoilt(no_inputs),
    "conv without output": spoilt(conv_without_output),
    "conv without weight": spoilt(conv_without_weight),
    "conv of ten inputs": spoilt(conv_of_ten_inputs),
    "duplicate node names": spoilt(duplicate_nodes),
    "duplicate tensor names": spoilt(duplicate_tensors),
    "duplicate weights": spoilt(duplicate_weights),
    "output named as a weight": spoilt(output_named_as_a_weight),
    "attribute twice": spoilt(attribute_twice),
    "attribute of another type": spoilt(attribute_of_another_type),
    "unknown attribute": spoilt(unknown_attribute),
    "reference to a function's attribute": spoilt(reference_to_a_function_attribute),
    "weight in a file": spoilt(weight_in_a_file),
    "weight at an offset": spoilt(weight_at_an_offset),
    "constant in a file": spoilt(constant_in_a_file),
    "20,000 nodes": spoilt(many_nodes),
}
