"""Binary gates on channels: the step with its surrogate gradient, where gates multiply, and how they are scored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pruning_client.groups import Traced

#: All gates start open and inside the band (-1, 1) in which they can move: scores around `OFFSET`, spread `SPREAD` or
#: less.
OFFSET, SPREAD = 0.3, 0.15


class Step(torch.autograd.Function):
    """1 where the score is at least 0, else 0.

    Its gradient is the triangle 2 - 2|s| on (-1, 1) and 0 elsewhere: Bi-Real Net's (Liu et al., ECCV 2018) surrogate,
    as in its public code. At a score of exactly 1 or beyond nothing ever moves.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(scores)
        return (scores >= 0).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (scores,) = ctx.saved_tensors
        surrogate: Tensor = gradient * (2 - 2 * scores.abs()).clamp_min(0)
        return surrogate


def step(scores: Tensor) -> Tensor:
    """Open (1) or closed (0) for each score [...], differentiable through the surrogate."""
    gates: Tensor = Step.apply(scores)  # type: ignore[no-untyped-call]
    return gates


class GateScores(Protocol):
    """Scores of all channels, by width group, in the band around zero."""

    def __call__(self, model: nn.Module) -> list[Tensor]:
        """Scores [G][C] for the model's present weights."""

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """What is trained beside the weights, for an Adam whose every step moves scores by about `lr`."""


class WeightScores(nn.Module):
    """W-Gates: a channel's score is a learnt linear function of its filters' weights (Li et al., arXiv 2007.02066).

    ``score = sum over member layers of flatten(W) v + b``, one v and b for each layer, shared by its filters. The
    linear form is our reconstruction of the paper's gate. Our own: the members of a width group are joined by their
    sum, filters are divided by their layer's mean norm (so that layers of any fan-in start alike), and the start.
    """

    def __init__(self, model: nn.Module, traced: Traced, generator: torch.Generator) -> None:
        super().__init__()
        self._sizes = [group.width for group in traced.space.groups]
        own = [producer for producer in traced.producers if not producer.depthwise]
        scored = {producer.group for producer in own}
        # a group that only depthwise layers produce has no other filters to read
        self._members = own + [producer for producer in traced.producers if producer.group not in scored]
        counts = [sum(member.group == g for member in self._members) for g in range(len(self._sizes))]
        self.vectors, self.offsets = nn.ParameterList(), nn.ParameterList()
        self._norms: list[float] = []
        for index, member in enumerate(self._members):
            filters = filters_of(model, member.module).detach()
            self._norms.append(float(filters.norm(dim=1).mean().clamp_min(1e-12)))
            vector = torch.randn(filters.shape[1], generator=generator) * (SPREAD / counts[member.group] ** 0.5)
            self.vectors.append(nn.Parameter(vector.to(filters)))
            self.offsets.append(nn.Parameter(filters.new_tensor(OFFSET / counts[member.group])))
            self.register_buffer(f"filters_{index}", torch.as_tensor(member.filters, device=filters.device))
            self.register_buffer(f"channels_{index}", torch.as_tensor(member.channels, device=filters.device))
        self._start(model)

    @torch.no_grad()
    def _start(self, model: nn.Module) -> None:
        """Scale and shift what was drawn, so that in every group all gates are open and inside the band."""
        for group, scores in enumerate(self(model)):
            members = [index for index, member in enumerate(self._members) if member.group == group]
            centred = scores - scores.mean()
            deviation = centred.abs().max().clamp_min(1e-12)
            scale = min(SPREAD / float(centred.std(correction=0).clamp_min(1e-12)), 0.9 * OFFSET / float(deviation))
            mean = float((scores - OFFSET).mean()) * scale
            for index in members:
                self.vectors[index].mul_(scale)
                self.offsets[index].sub_(mean / len(members))

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """A step of Adam moves each of the n weights of v by its rate, all in the direction that the filters share: the
        score of one of C filters then moves by the rate times sqrt(n / C)."""
        rates = [
            lr * (len(member.filters) / len(v)) ** 0.5 for member, v in zip(self._members, self.vectors, strict=True)
        ]
        vectors = [{"params": [v], "lr": rate} for v, rate in zip(self.vectors, rates, strict=True)]
        return [*vectors, {"params": list(self.offsets), "lr": lr}]

    def forward(self, model: nn.Module) -> list[Tensor]:
        scores = [self.vectors[0].new_zeros(size) for size in self._sizes]
        for index, member in enumerate(self._members):
            filters, channels = getattr(self, f"filters_{index}"), getattr(self, f"channels_{index}")
            weights = filters_of(model, member.module) / self._norms[index]
            values = (weights @ self.vectors[index])[filters] + self.offsets[index]
            repeats = len(member.filters) / len(set(member.channels.tolist()))
            scores[member.group] = scores[member.group].index_add(0, channels, values / repeats)
        return scores


class FreeScores(nn.Module):
    """A free parameter for each channel: the ablation of gates that depend on weights."""

    def __init__(self, model: nn.Module, traced: Traced, generator: torch.Generator) -> None:
        super().__init__()
        like = next(model.parameters())
        self.scores = nn.ParameterList(
            nn.Parameter((OFFSET + _drawn(group.width, generator)).to(like)) for group in traced.space.groups
        )

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """A step of Adam moves every score by its rate."""
        return [{"params": list(self.scores), "lr": lr}]

    def forward(self, model: nn.Module) -> list[Tensor]:
        return list(self.scores)


class Gates:
    """Multiplies gates into a model's forward pass at the places that the analysis found.

    They lie after batch norm: before it, the norm's shift would leak through a closed gate.
    """

    def __init__(self, model: nn.Module, traced: Traced) -> None:
        device = next(model.parameters()).device
        sizes = [group.width for group in traced.space.groups]
        starts = torch.tensor([sum(sizes[:g]) for g in range(len(sizes))], device=device)
        self._model, self._total = model, sum(sizes)
        self._points: list[tuple[str, int, Tensor]] = []
        for point in traced.gates:
            group, channel = (torch.as_tensor(a, device=device) for a in (point.group, point.channel))
            # positions that are never removed read the one that is appended to the gates
            index = torch.where(group >= 0, starts[group.clamp_min(0)] + channel, self._total)
            self._points.append((point.module, point.axis, index))
        self._padded: Tensor | None = None

    def set(self, gates: list[Tensor]) -> None:
        """The gates [G][C] of the coming forward passes."""
        self._padded = torch.cat([*gates, gates[0].new_ones(1)])

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """While open, the model's forward pass is gated."""
        handles = [
            self._model.get_submodule(name).register_forward_hook(self._hook(axis, index))
            for name, axis, index in self._points
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, axis: int, index: Tensor) -> Any:
        def multiply(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            assert self._padded is not None, "set() comes before the forward pass"
            shape = [1] * output.dim()
            shape[axis] = -1
            return output * self._padded[index].view(shape)

        return multiply


def _drawn(count: int, generator: torch.Generator) -> Tensor:
    """Deviations [count] of first scores from their centre, small enough for every gate to be open."""
    return (SPREAD * torch.randn(count, generator=generator)).clamp(-0.9 * OFFSET, 0.9 * OFFSET)


def filters_of(model: nn.Module, name: str) -> Tensor:
    """One row for each filter [filters, weights of a filter]."""
    module = model.get_submodule(name)
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        groups = module.groups
        inputs, per_group = weight.shape[:2]
        by_group = weight.reshape(groups, inputs // groups, per_group, -1)
        return by_group.transpose(1, 2).reshape(groups * per_group, -1)
    return weight.flatten(1)
