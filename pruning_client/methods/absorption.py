"""Factors of channels multiplied into the weights of layers and norms."""

from __future__ import annotations

from torch import Tensor, nn

from pruning_client.graph.modules import PRODUCERS

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def scale_inputs(layer: nn.Module, scale: Tensor) -> None:
    """Multiply the weights of a convolution or linear layer so that its outputs are those for
    inputs multiplied by `scale` [inputs].
    """
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.Linear):
        weight.mul_(scale.to(weight))
    elif isinstance(layer, _TRANSPOSED):
        weight.mul_(_over(scale, weight))
    else:
        weight.mul_(_over(_by_block(scale, layer, len(weight)), weight))


def scale_outputs(module: nn.Module, scale: Tensor) -> None:
    """Multiply the weights and shifts of a layer or norm so that its outputs are multiplied by
    `scale` [outputs]; a module without such tensors is left alone.
    """
    weight = module._parameters.get("weight")
    bias = module._parameters.get("bias")
    if weight is None:
        return
    if isinstance(module, _TRANSPOSED):
        weight.mul_(_over(_by_block(scale, module, len(weight)), weight))
    elif isinstance(module, PRODUCERS) or weight.dim() == 1:
        weight.mul_(_over(scale, weight))
    if bias is not None:
        bias.mul_(scale.to(bias))


def _by_block(scale: Tensor, layer: nn.Module, rows: int) -> Tensor:
    """Factors [rows, channels of a block] for a convolution whose blocks (`groups`) each have
    their own channels, and `rows` rows of weights in all.
    """
    blocks = layer.groups
    assert isinstance(blocks, int)
    return scale.view(blocks, -1).repeat_interleave(rows // blocks, dim=0)


def _over(scale: Tensor, weight: Tensor) -> Tensor:
    """Factors of the first axes of a weight, with axes of size one for the others."""
    return scale.to(weight).view(*scale.shape, *[1] * (weight.dim() - scale.dim()))
