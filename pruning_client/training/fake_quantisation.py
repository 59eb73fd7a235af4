"""Training under the rounding of int8, with torch's own fake quantisation.

Weights are rounded per output channel and symmetrically, as ONNX Runtime's files are: folding a
batch normalisation scales whole channels and changes nothing about that rounding. The inputs of
these layers are rounded in ranges that follow moving averages (Jacob et al., 2018).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.quantization import (
    FakeQuantize,
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
)
from torch.nn.utils import parametrize

from pruning_client.errors import ModelError

_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
#: Name of the submodule that rounds the input of a layer.
_INPUT = "fake_quantised_input"


@contextlib.contextmanager
def fake_quantisation(
    model: nn.Module, *, symmetric: bool, float_layers: Collection[str] = ()
) -> Iterator[None]:
    """While active, convolutions and linear layers compute with rounded weights and inputs.

    Gradients pass through the rounding (straight-through estimator). Afterwards the weights are
    those that were trained, unrounded.

    Args:
        symmetric: inputs are rounded to signed values with a zero point of 0, else to unsigned
            ones.
        float_layers: names of modules that are left in float.
    """
    layers = [
        module
        for name, module in model.named_modules()
        if isinstance(module, _WEIGHTED) and name not in float_layers
    ]
    handles = [_round(layer, symmetric) for layer in layers]
    try:
        yield
    finally:
        for layer, handle in zip(layers, handles, strict=True):
            handle.remove()
            delattr(layer, _INPUT)
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


def check_layers(model: nn.Module, *, float_layers: Collection[str] = ()) -> None:
    """Check that the weights of a network can be rounded in training.

    Args:
        float_layers: names of modules that are left in float.

    Raises:
        ModelError: the weight of a layer is computed from other tensors.
    """
    for name, module in model.named_modules():
        is_rounded = isinstance(module, _WEIGHTED) and name not in float_layers
        if is_rounded and "weight" not in module._parameters:
            raise ModelError(
                f"The weight of {name!r} is computed from other tensors (a weight or spectral "
                "norm, or a mask), and quantisation-aware training rounds plain weights.",
                "Make it plain (`torch.nn.utils.parametrize.remove_parametrizations`, "
                "`remove_weight_norm`, `prune.remove`), or leave `aware_epochs` at 0.",
            )


def _round(layer: nn.Module, symmetric: bool) -> Any:
    device = next(layer.parameters()).device
    parametrize.register_parametrization(layer, "weight", _weights().to(device))
    setattr(layer, _INPUT, _inputs(symmetric).to(device))
    return layer.register_forward_pre_hook(_with_rounded_input)


def _with_rounded_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Ranges follow the training images only."""
    rounding = getattr(layer, _INPUT)
    rounding.enable_observer(layer.training)
    rounded = rounding(inputs[0].float())
    return (rounded, *inputs[1:])


def _weights() -> nn.Module:
    return FakeQuantize(  # type: ignore[no-untyped-call]
        MovingAveragePerChannelMinMaxObserver,
        quant_min=-127,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
    )


def _inputs(symmetric: bool) -> nn.Module:
    if symmetric:
        return FusedMovingAvgObsFakeQuantize(
            MovingAverageMinMaxObserver,
            quant_min=-128,
            quant_max=127,
            dtype=torch.qint8,
            qscheme=torch.per_tensor_symmetric,
        )
    return FusedMovingAvgObsFakeQuantize(
        MovingAverageMinMaxObserver,
        quant_min=0,
        quant_max=255,
        dtype=torch.quint8,
        qscheme=torch.per_tensor_affine,
    )
