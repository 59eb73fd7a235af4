"""Graphs whose weights are given by shape only, and random weights for them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

#: Location of a weight that is given by shape only.
WEIGHTLESS = "weightless"


def is_weightless(tensor: TensorProto) -> bool:
    """Whether a tensor is given by its shape only."""
    return tensor.data_location == TensorProto.EXTERNAL


#: Operator inputs that are settings, not weights: without their values the graph would compute
#: something else.
_SETTINGS = {
    "Resize": (1, 2),
    "Upsample": (1,),
    "Clip": (1, 2),
    "Pad": (2,),
    "Dropout": (1,),
    "Pow": (1,),
}


def settings_of(model: ModelProto) -> set[str]:
    """Names of the tensors that are settings of operators."""
    return {
        node.input[index]
        for node in model.graph.node
        for index in _SETTINGS.get(node.op_type, ())
        if index < len(node.input)
    }


def make_weightless(model: ModelProto) -> ModelProto:
    """Copy of a graph with every floating-point weight given by its shape only; scalars and
    settings keep their values.
    """
    settings = settings_of(model)
    bare = without_initializers(model)
    for tensor in model.graph.initializer:
        floating = tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
        if floating and tensor.dims and tensor.name not in settings:
            given = bare.graph.initializer.add(
                name=tensor.name,
                data_type=tensor.data_type,
                data_location=TensorProto.EXTERNAL,
                dims=tensor.dims,
            )
            given.external_data.add(key="location", value=WEIGHTLESS)
        else:
            bare.graph.initializer.add().CopyFrom(tensor)
    return bare


def without_initializers(model: ModelProto) -> ModelProto:
    """Copy of a graph without its initializers."""
    bare = ModelProto()
    _copy_fields(model, bare, "graph")
    _copy_fields(model.graph, bare.graph, "initializer")
    return bare


def _copy_fields(
    source: ModelProto | GraphProto, target: ModelProto | GraphProto, left_out: str
) -> None:
    """Copy all fields but one: the weights of a large network take longer than all others."""
    for field, value in source.ListFields():
        if field.name == left_out:
            continue
        if isinstance(value, (int, float, str, bytes)):
            setattr(target, field.name, value)
        else:
            getattr(target, field.name).MergeFrom(value)


def draw_weights(model: ModelProto, seed: int = 0) -> ModelProto:
    """Fill every weight that is given by shape only, in place, and return the model.

    Matrices and kernels are drawn from N(0, 1/fan_in), vectors (biases, scales, variances) from
    [0.5, 1.5): activations stay of order one at any depth, far from denormals, which would make
    ONNX Runtime many times slower.
    """
    pool = np.random.default_rng(seed).standard_normal(1 << 16, dtype=np.float32)
    for tensor in model.graph.initializer:
        if not is_weightless(tensor):
            continue
        dims = tuple(tensor.dims)
        size = int(np.prod(dims))
        if len(dims) < 2:
            values: npt.NDArray[np.floating] = 0.5 + np.abs(np.resize(pool, size)) % 1.0
        else:
            values = np.resize(pool, size) / np.float32(np.sqrt(max(1, np.prod(dims[1:]))))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        tensor.CopyFrom(numpy_helper.from_array(values.reshape(dims).astype(dtype), tensor.name))
    return model
