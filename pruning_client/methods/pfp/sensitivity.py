"""Empirical sensitivities of the channels that each layer reads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Floats
from pruning_client.data.batch import Batch
from pruning_client.execution import distributed
from pruning_client.execution.modes import evaluating
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph.modules import Reader
from pruning_client.methods.base import Context
from pruning_client.methods.pfp import patches

#: Samples in one forward pass.
_FORWARD = 16
#: Denominators at or below this count as zero, as in the public code.
TINY = float(np.finfo(np.float32).eps)
_PHASE = "score channels"
_CHECKPOINT = "sensitivities"

#: Function of a layer and one batch of its inputs.
Visit = Callable[[Reader, nn.Module, Tensor], None]


@dataclass(kw_only=True)
class LayerSensitivity:
    """Sensitivities of the channels of one layer's input."""

    #: Sensitivity of each position of the input's channel axis [P], in [0, 1].
    values: Tensor
    #: Number of weights of a filter for one channel.
    taps: int
    #: Number of patches of one sample.
    patches: int = 0

    def add(self, module: nn.Module, inputs: Tensor) -> None:
        """Take a batch of the layer's inputs into the maximum."""
        for part in patches.by_sign(inputs):
            found = patches.patches(module, part)
            self.patches = max(self.patches, found.count)
            for chunk in found.chunks():
                for weights in patches.signed_weights(module):
                    torch.maximum(self.values, _shares(weights, chunk), out=self.values)


def _shares(weights: Tensor, chunk: Tensor) -> Tensor:
    """Largest share of each channel [P] in a pre-activation, over filters, patches and taps.

    Args:
        weights: Not negative, [groups, filters, channels, taps].
        chunk: Not negative, [groups, channels, taps, patches].
    """
    totals = patches.pre_activations(weights, chunk)
    inverse = torch.where(totals > TINY, totals.reciprocal(), 0)
    largest = chunk.new_zeros(chunk.shape[:3])
    product = torch.empty_like(chunk)
    for index in range(weights.shape[1]):
        torch.mul(chunk, inverse[:, index, None, None], out=product)
        torch.maximum(largest, weights[:, index] * product.amax(-1), out=largest)
    return largest.amax(-1).flatten()


@dataclass(frozen=True, kw_only=True)
class Sensitivities:
    """Sensitivities of a network's channels.

    Attributes:
        layers: By the name of the layer that reads the channels.
        groups: Sensitivities [G][C]: the maximum over the layers that read a channel, and over the
            positions where they read it [ours]; None for a group that no such layer reads.
    """

    layers: dict[str, LayerSensitivity]
    groups: list[Floats | None] = field(default_factory=list)


def scored_readers(context: Context) -> list[Reader]:
    """Layers whose sensitivities are computed: all but the depthwise ones, of which each filter
    reads one channel only, with a share of 1 whatever the channel is worth.
    """
    return [
        reader
        for reader in context.traced.readers
        if not reader.depthwise and bool((reader.group >= 0).any())
    ]


def sensitivities(context: Context, samples: Sequence[Batch]) -> Sensitivities:
    """Sensitivities on some samples: the share of a channel in a layer's pre-activation, at most.

    Shares are those of single weights, with positive and negative weights apart, and negative
    inputs split into positive and negative parts; the maximum is over samples, filters, patches and
    taps, as in the public code of the paper.
    """
    readers = scored_readers(context)
    layers = {reader.module: _empty(context.model, reader) for reader in readers}

    def visit(reader: Reader, module: nn.Module, inputs: Tensor) -> None:
        layers[reader.module].add(module, inputs)

    found = context.shared.load(_CHECKPOINT)
    if found is None:
        visit_inputs(context, samples, visit, _PHASE)
        _save(context, layers)
    else:
        _restore(layers, *found)
    seen = {name: layer for name, layer in layers.items() if layer.patches}
    return Sensitivities(layers=seen, groups=_by_group(context, readers, seen))


def visit_inputs(context: Context, samples: Sequence[Batch], visit: Visit, phase: str) -> None:
    """Call `visit` for the inputs of every scored layer, in forward passes of few samples."""
    device = next(context.model.parameters()).device
    parts = [part for batch in samples for part in batch.parts(_FORWARD)]
    total = sum(len(part) for part in parts)
    done = 0
    with evaluating(context.model), _visited(context, visit), torch.no_grad():
        for part in parts:
            context.model(*part.to(device).inputs)
            done += len(part)
            context.progress(ProgressEvent(phase=phase, done=done, total=total, unit="images"))


@contextlib.contextmanager
def _visited(context: Context, visit: Visit) -> Iterator[None]:
    handles = []
    for reader in scored_readers(context):
        module = context.model.get_submodule(reader.module)
        handles.append(module.register_forward_pre_hook(_hook(reader, visit)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(reader: Reader, visit: Visit) -> Any:
    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs:
            visit(reader, module, inputs[0])

    return before


def _empty(model: nn.Module, reader: Reader) -> LayerSensitivity:
    weights = patches.weight_matrix(model.get_submodule(reader.module))
    return LayerSensitivity(values=weights.new_zeros(len(reader.group)), taps=int(weights.shape[3]))


def _save(context: Context, layers: dict[str, LayerSensitivity]) -> None:
    for layer in layers.values():
        # equal in every process, also on unlike machines
        distributed.average(layer.values)
    values = {name: layer.values for name, layer in layers.items()}
    counts = {name: layer.patches for name, layer in layers.items()}
    context.shared.save(_CHECKPOINT, values, counts)


def _restore(
    layers: dict[str, LayerSensitivity], values: dict[str, Tensor], counts: dict[str, int]
) -> None:
    for name, layer in layers.items():
        layer.values = values[name].to(layer.values)
        layer.patches = counts[name]


def _by_group(
    context: Context, readers: Sequence[Reader], layers: dict[str, LayerSensitivity]
) -> list[Floats | None]:
    widths = [group.width for group in context.traced.space.groups]
    totals = [np.zeros(width) for width in widths]
    read: set[int] = set()
    for reader in readers:
        if reader.module not in layers:
            continue
        values = layers[reader.module].values.double().cpu().numpy()
        for group in np.unique(reader.group[reader.group >= 0]):
            where = reader.group == group
            np.maximum.at(totals[group], reader.channel[where], values[where])
            read.add(int(group))
    return [total if g in read else None for g, total in enumerate(totals)]
