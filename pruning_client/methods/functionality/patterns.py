"""The input pattern that excites each filter most: activation maximisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning_client.data.batch import Batch
from pruning_client.errors import UsageError
from pruning_client.execution import distributed
from pruning_client.execution.modes import evaluating
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph.modules import Producer, channel_axis
from pruning_client.methods.base import Context
from pruning_client.methods.gates import scored_layers

#: Filters whose patterns are computed at once.
_AT_ONCE = 64
#: Largest side of a pattern that is kept; larger ones are averaged over squares.
_SIDE = 32
#: Length of a step, in standard deviations of the data.
_RATE = 0.25
#: Largest shift of the input in a step, as a share of its side.
_JITTER = 0.125
_PHASE = "maximise activations"
_CHECKPOINT = "patterns"


@dataclass(frozen=True, kw_only=True)
class _Start:
    """Where the ascent starts, and its bounds: the mean of some training samples."""

    inputs: tuple[Tensor, ...]
    #: Standard deviation, lowest and highest value of the data, for each input.
    deviations: list[float]
    lowest: list[float]
    highest: list[float]
    #: Index of the input that is changed.
    changed: int

    @classmethod
    def of(cls, batch: Batch, generator: torch.Generator) -> _Start:
        """All filters start from the same input, so that equal filters find equal patterns."""
        changed = changed_input(batch.inputs)
        inputs = [x[:1].clone() for x in batch.inputs]
        data = batch.inputs[changed]
        noise = torch.randn(inputs[changed].shape, generator=generator).to(data)
        inputs[changed] = data.mean(0, keepdim=True) + 0.1 * float(data.std()) * noise
        return cls(
            inputs=tuple(inputs),
            deviations=[float(x.float().std(correction=0)) for x in batch.inputs],
            lowest=[float(x.min()) for x in batch.inputs],
            highest=[float(x.max()) for x in batch.inputs],
            changed=changed,
        )


def changed_input(inputs: Sequence[Tensor]) -> int:
    """Index of the input that is changed: the largest of real numbers.

    Raises:
        UsageError: There is none.
    """
    real = [k for k, x in enumerate(inputs) if x.is_floating_point()]
    if not real:
        raise UsageError(
            "Functionality changes the network's input by its gradient, and this network reads "
            "integers only.",
            "Choose another method, such as w-gates or pfp.",
        )
    return max(real, key=lambda k: inputs[k][0].numel())


def find_patterns(context: Context, steps: int) -> dict[str, Tensor]:
    """Normalised patterns [filters, C, ...] of the layers that produce channels, by their names.

    The mean activation of a filter over its positions is raised by gradient ascent on the input,
    which is shifted at random in each step. A pattern is the change of the input, divided by its
    norm; a filter that nothing excites has a pattern of zeros, and so have the filters of a layer
    that is not called.
    """
    generator = torch.Generator().manual_seed(context.training.seed)
    batch = next(iter(context.train.shuffled(context.training.seed)))
    start = _Start.of(batch, generator)
    found = context.shared.load(_CHECKPOINT)
    if found is not None:
        return found[0]
    layers = list(dict.fromkeys(scored_layers_of(context)))
    patterns: dict[str, Tensor] = {}
    with evaluating(context.model):
        for done, name in enumerate(layers):
            context.progress(
                ProgressEvent(phase=_PHASE, done=done, total=len(layers), unit="layers")
            )
            patterns[name] = _patterns_of(context.model, name, start, steps, generator)
            # equal in every process, also on unlike machines
            distributed.average(patterns[name])
    context.progress(
        ProgressEvent(phase=_PHASE, done=len(layers), total=len(layers), unit="layers")
    )
    context.shared.save(_CHECKPOINT, patterns, {})
    return patterns


def scored_layers_of(context: Context) -> Iterator[str]:
    """Names of the layers whose filters have patterns."""
    for producer in scored_layers(context.traced.producers):
        yield producer.module


def patterns_by_channel(producer: Producer, patterns: Tensor, width: int) -> Tensor:
    """Patterns [width, values] of a group's channels: the mean over the filters of each channel."""
    rows = patterns.flatten(1)
    filters = torch.as_tensor(producer.filters)
    channels = torch.as_tensor(producer.channels)
    return rows.new_zeros(width, rows.shape[1]).index_add(0, channels, rows[filters])


class _Reached(Exception):
    """The layer has computed its output."""


def _patterns_of(
    model: nn.Module, name: str, start: _Start, steps: int, generator: torch.Generator
) -> Tensor:
    """Patterns [filters, C, ...] of one layer."""
    module = model.get_submodule(name)
    count = _filter_count(module)
    shifts = _shifts(start.inputs[start.changed], steps, generator)
    parts = [
        _ascend(model, module, torch.arange(at, min(at + _AT_ONCE, count)), start, shifts)
        for at in range(0, count, _AT_ONCE)
    ]
    return torch.cat(parts).cpu()


def _filter_count(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.out_features
    count = module.out_channels
    assert isinstance(count, int)
    return count


def _shifts(like: Tensor, steps: int, generator: torch.Generator) -> list[list[int]]:
    """Shift of each spatial axis in each step."""
    reach = [max(1, round(_JITTER * side)) if side > 4 else 0 for side in like.shape[2:]]
    return [
        [int(torch.randint(-most, most + 1, (1,), generator=generator)) for most in reach]
        for _ in range(steps)
    ]


def _ascend(
    model: nn.Module, module: nn.Module, filters: Tensor, start: _Start, shifts: list[list[int]]
) -> Tensor:
    """Normalised patterns [filters, C, ...] of some filters of a layer."""
    device = next(model.parameters()).device
    inputs = [x.to(device).repeat(len(filters), *[1] * (x.dim() - 1)) for x in start.inputs]
    changed = start.changed
    first = inputs[changed].clone()
    axes = list(range(2, first.dim()))
    rate = _RATE * start.deviations[changed]
    for shift in shifts:
        current = inputs[changed].detach().requires_grad_()
        inputs[changed] = torch.roll(current, shift, axes) if axes else current
        gradient = _gradient(model, module, inputs, filters, current)
        moved = current.detach() + rate * _unit(gradient) * gradient[0].numel() ** 0.5
        inputs[changed] = moved.clamp(start.lowest[changed], start.highest[changed])
    return _unit(_small(inputs[changed] - first))


def _gradient(
    model: nn.Module, module: nn.Module, inputs: list[Tensor], filters: Tensor, current: Tensor
) -> Tensor:
    """Gradient of each filter's mean activation in its own input."""
    with torch.enable_grad():
        output = _output(model, module, inputs)
        if output is None:
            return torch.zeros_like(current)
        by_filter = output.movedim(channel_axis(module), 1).float()
        by_filter = by_filter.reshape(len(filters), -1, _filter_count(module), *by_filter.shape[2:])
        means = by_filter.flatten(3).mean((1, 3)) if by_filter.dim() > 3 else by_filter.mean(1)
        total = means[torch.arange(len(filters)), filters].sum()
        (gradient,) = torch.autograd.grad(total, current, allow_unused=True)
    return torch.zeros_like(current) if gradient is None else gradient


def _output(model: nn.Module, module: nn.Module, inputs: list[Tensor]) -> Tensor | None:
    """Output of a layer in the model's forward pass, which ends there; None where the network takes
    the layer's weights without calling it.
    """
    reached: list[Tensor] = []

    def stop(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        reached.append(output)
        raise _Reached

    handle = module.register_forward_hook(stop)
    try:
        model(*inputs)
    except _Reached:
        pass
    finally:
        handle.remove()
    return reached[0] if reached else None


def _unit(values: Tensor) -> Tensor:
    """Each sample divided by its norm; zeros stay zeros."""
    flat = values.flatten(1)
    norms = flat.norm(dim=1, keepdim=True)
    unit: Tensor = flat / norms.clamp_min(torch.finfo(flat.dtype).tiny)
    return unit.view_as(values)


def _small(patterns: Tensor) -> Tensor:
    """Patterns with sides of at most `_SIDE`."""
    sides = [min(side, _SIDE) for side in patterns.shape[2:]]
    if sides == list(patterns.shape[2:]):
        return patterns
    pools = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
    pooled: Tensor = pools[len(sides) - 1](tuple(sides))(patterns)
    return pooled
