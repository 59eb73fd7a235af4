"""Binary gates on channels: the step with its surrogate gradient, where gates multiply, and how
they are scored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from latency_service.core.arrays import Ints
from pruning_client.graph.space import Traced

#: Scores start within this of zero, well inside (-1, 1), where gates can move.
BAND = 0.5
#: Added to the diagonal of the filters' products when scores are set, as a share of its mean.
_RIDGE = 1e-3


class BiRealStep(torch.autograd.Function):
    """The gate's step with its surrogate gradient, a straight-through estimator.

    Forward: 1 where the score is at least 0, else 0. Backward: the triangle 2 - 2|s| on (-1, 1) and
    0 elsewhere, the surrogate of Bi-Real Net (Liu et al., ECCV 2018) as in its public code. At a
    score of exactly 1 or beyond nothing ever moves.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        ctx.save_for_backward(scores)
        return (scores >= 0).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (scores,) = ctx.saved_tensors
        return gradient * surrogate_gradient(scores)


def surrogate_gradient(scores: Tensor) -> Tensor:
    """Derivative of `step` in the backward pass, for each score [...]."""
    return (2 - 2 * scores.abs()).clamp_min(0)


def step(scores: Tensor) -> Tensor:
    """Open (1) or closed (0) for each score [...], differentiable by `surrogate_gradient`."""
    gates: Tensor = BiRealStep.apply(scores)  # type: ignore[no-untyped-call]
    return gates


class GateScores(Protocol):
    """Scores of all channels, by width group, in the band around zero; all at `BAND` until they are
    set.
    """

    def __call__(self, model: nn.Module) -> list[Tensor]:
        """Scores [G][C] for the model's present weights."""

    def start(self, model: nn.Module, scores: list[Tensor]) -> None:
        """Set the scores [G][C] for the model's present weights, as nearly as they can be."""

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """What is trained beside the weights, for an Adam whose every step moves scores by about
        `lr`.
        """


class WeightScores(nn.Module):
    """W-Gates: a channel's score is a learnt linear function of its filters' weights (Li et al.,
    arXiv 2007.02066).

    ``score = sum over member layers of flatten(W) v + b``, one v and b for each layer, shared by
    its filters. The linear form is our reconstruction of the paper's gate. Our own: the members of
    a width group are joined by their sum, filters are divided by their layer's mean norm (so that
    layers of any fan-in start alike) and not trained through the scores, and the start.
    """

    def __init__(self, model: nn.Module, traced: Traced) -> None:
        super().__init__()
        self._sizes = [group.width for group in traced.space.groups]
        own = [producer for producer in traced.producers if not producer.depthwise]
        scored = {producer.group for producer in own}
        # a group that only depthwise layers produce has no other filters to read
        self._members = own + [
            producer for producer in traced.producers if producer.group not in scored
        ]
        groups = [member.group for member in self._members]
        self._counts = [groups.count(group) for group in groups]
        self.vectors = nn.ParameterList()
        self.offsets = nn.ParameterList()
        self._norms: list[float] = []
        for index, (member, count) in enumerate(zip(self._members, self._counts, strict=True)):
            filters = filters_of(model, member.module).detach()
            self._norms.append(float(filters.norm(dim=1).mean().clamp_min(1e-12)))
            self.vectors.append(nn.Parameter(filters.new_zeros(filters.shape[1])))
            self.offsets.append(nn.Parameter(filters.new_tensor(BAND / count)))
            self.register_buffer(
                f"filters_{index}", torch.as_tensor(member.filters, device=filters.device)
            )
            self.register_buffer(
                f"channels_{index}", torch.as_tensor(member.channels, device=filters.device)
            )

    @torch.no_grad()
    def start(self, model: nn.Module, scores: list[Tensor]) -> None:
        """Ridge regression of each group's scores [C] on its members' filters: the smallest v that
        give them.

        Layers have more weights in a filter than filters, as a rule: then the scores come out as
        wanted. Filters that weight decay has all but emptied score b alone: b is not held small, so
        it becomes what is wanted of them.
        """
        for group, score in enumerate(scores):
            members = [index for index, member in enumerate(self._members) if member.group == group]
            filters = [
                self._by_channel(index, self._filters(model, index)).double() for index in members
            ]
            products = torch.stack([rows @ rows.T for rows in filters]).sum(0)
            ridge = (
                _RIDGE
                * products.diagonal().mean().clamp_min(1e-12)
                * torch.eye(len(products)).to(products)
            )
            wanted = score.to(products)
            both = torch.linalg.solve(
                products + ridge, torch.stack([wanted, torch.ones_like(wanted)], dim=1)
            )
            offset = both[:, 0].sum() / both[:, 1].sum()
            weights = both[:, 0] - offset * both[:, 1]
            for index, rows in zip(members, filters, strict=True):
                self.vectors[index].copy_(rows.T @ weights)
                self.offsets[index].copy_(offset / len(members))

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """A step of Adam moves each of the n weights of v by its rate, all in the direction that
        the filters share: the score of one of C filters then moves by the rate times sqrt(n / C);
        and a group's by what its members' do.
        """
        groups = []
        for member, count, v, b in zip(
            self._members, self._counts, self.vectors, self.offsets, strict=True
        ):
            groups.append({"params": [v], "lr": lr / count * (len(member.filters) / len(v)) ** 0.5})
            groups.append({"params": [b], "lr": lr / count})
        return groups

    def forward(self, model: nn.Module) -> list[Tensor]:
        scores = [self.vectors[0].new_zeros(size) for size in self._sizes]
        for index, member in enumerate(self._members):
            values = self._filters(model, index) @ self.vectors[index] + self.offsets[index]
            scores[member.group] = scores[member.group] + self._by_channel(index, values)
        return scores

    def _filters(self, model: nn.Module, index: int) -> Tensor:
        return filters_of(model, self._members[index].module).detach() / self._norms[index]

    def _by_channel(self, index: int, values: Tensor) -> Tensor:
        """Values [filters, ...] of a member as those of its group's channels [C, ...]: the mean of
        a channel's.
        """
        member = self._members[index]
        channels = getattr(self, f"channels_{index}")
        repeats = len(member.filters) / len(set(member.channels.tolist()))
        empty = values.new_zeros(self._sizes[member.group], *values.shape[1:])
        return empty.index_add(0, channels, values[getattr(self, f"filters_{index}")] / repeats)


class FreeScores(nn.Module):
    """A free parameter for each channel: the ablation of gates that depend on weights."""

    def __init__(self, model: nn.Module, traced: Traced) -> None:
        super().__init__()
        like = next(model.parameters())
        self.scores = nn.ParameterList(
            nn.Parameter(torch.full((group.width,), BAND).to(like)) for group in traced.space.groups
        )

    @torch.no_grad()
    def start(self, model: nn.Module, scores: list[Tensor]) -> None:
        """Exactly as wanted."""
        for own, wanted in zip(self.scores, scores, strict=True):
            own.copy_(wanted)

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
        self._model = model
        self._total = sum(sizes)
        self._points: list[tuple[str, int, Tensor]] = []
        for point in traced.gates:
            group, channel = (
                torch.as_tensor(a, device=device) for a in (point.group, point.channel)
            )
            # positions that are never removed read the one that is appended to the gates
            index = torch.where(group >= 0, starts[group.clamp_min(0)] + channel, self._total)
            self._points.append((point.module, point.axis, index))
        self._padded: Tensor | None = None

    def set(self, gates: Sequence[Tensor]) -> None:
        """The gates of the coming forward passes: [G][C], or [G][images, C] for a gradient of each
        image's own.
        """
        self._padded = torch.cat([*gates, gates[0].new_ones(*gates[0].shape[:-1], 1)], dim=-1)

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
            return output * _along(self._padded.index_select(-1, index), output, axis)

        return multiply


def masks(keep: Sequence[Ints], sizes: Sequence[int], model: nn.Module) -> list[Tensor]:
    """Gates [G][C], for groups of `sizes` [G] channels, that are open for the channels `keep`
    [G][width] alone.
    """
    like = next(model.parameters())
    found = [torch.zeros(size).to(like) for size in sizes]
    for mask, kept in zip(found, keep, strict=True):
        mask[torch.from_numpy(kept).to(like.device)] = 1
    return found


def _along(gates: Tensor, output: Tensor, axis: int) -> Tensor:
    """Gates [P] or [images, P] in a shape that multiplies an output along its axis of P
    channels.
    """
    shape = [1] * output.dim()
    shape[axis] = gates.shape[-1]
    if gates.dim() > 1:
        copies, rest = divmod(len(output), len(gates))
        if rest or axis % output.dim() == 0:
            gates = gates.mean(0)  # images cannot be told apart there
        else:
            shape[0], gates = len(output), gates.repeat_interleave(copies, 0)
    return gates.view(shape)


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
