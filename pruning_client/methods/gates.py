"""Binary gates on channels: the step with its surrogate gradient, the scores, and the gated forward
pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from latency_service.core.arrays import Ints
from pruning_client.graph.space import GatePoint, Producer, Reader, Traced

#: Largest initial score, well inside (-1, 1), where gates can move.
BAND = 0.5
#: Scale and shift of a norm.
_OWN = ("weight", "bias")
#: Ridge of the regression that sets the scores, as a share of the Gram matrix's mean diagonal.
_RIDGE = 1e-3


class BiRealStep(torch.autograd.Function):
    """The gate's step with its surrogate gradient, a straight-through estimator.

    Forward: 1 where the score is at least 0, else 0. Backward: the triangle 2 - 2|s| on (-1, 1) and
    0 elsewhere, the surrogate of Bi-Real Net (Liu et al., ECCV 2018) as in its public code. A score
    at or beyond 1 has no gradient and never moves again.
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
    """Scores of all channels by width group, in the band around zero; all `BAND` until they are
    set.
    """

    def __call__(self, model: nn.Module) -> list[Tensor]:
        """Scores [G][C] for the model's present weights."""

    def start(self, model: nn.Module, scores: list[Tensor]) -> None:
        """Set the scores [G][C] for the model's present weights, as closely as possible."""

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Parameter groups for Adam, with rates such that each step moves scores by about `lr`."""


class WeightScores(nn.Module):
    """W-Gates: a channel's score is a learnt linear function of its filters' weights (Li et al.,
    arXiv 2007.02066).

    ``score = sum over member layers of flatten(W) v + b``, with one v and b for each layer, shared
    by its filters. The linear form is our reconstruction of the paper's gate. Ours are the sum over
    the members of a width group, the division of filters by their layer's mean norm (so that layers
    of any fan-in start alike), the detached filters (scores do not train them), and the initial
    scores.
    """

    def __init__(self, model: nn.Module, traced: Traced) -> None:
        super().__init__()
        self._sizes = [group.width for group in traced.space.groups]
        self._members = scored_layers(traced.producers)
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
            self._register_indices(index, member, filters.device)

    def _register_indices(self, index: int, member: Producer, device: torch.device) -> None:
        for name, indices in (("filters", member.filters), ("channels", member.channels)):
            self.register_buffer(f"{name}_{index}", torch.as_tensor(indices, device=device))

    @torch.no_grad()
    def start(self, model: nn.Module, scores: list[Tensor]) -> None:
        """Ridge regression of each group's scores [C] on the filters of its members, for the
        smallest v.

        Most layers have more weights in a filter than filters, and then the scores are met. If
        weight decay has made the filters almost zero, b alone gives the score: b has no penalty.
        """
        for group, score in enumerate(scores):
            members = [index for index, member in enumerate(self._members) if member.group == group]
            filters = [
                self._by_channel(index, self._filters(model, index)).double() for index in members
            ]
            weights, offset = _ridge_regression(filters, score)
            for index, rows in zip(members, filters, strict=True):
                self.vectors[index].copy_(rows.T @ weights)
                self.offsets[index].copy_(offset / len(members))

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Rates that allow for the size of each layer and the number of members.

        A step of Adam moves each of the n weights of v by its rate, all in the direction that the
        filters share: the score of one of C filters then moves by the rate times sqrt(n / C), and
        the score of a group by the sum over its members.
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
        """Mean over the filters of each channel [C, ...] of a member's values [filters, ...]."""
        member = self._members[index]
        channels = getattr(self, f"channels_{index}")
        repeats = len(member.filters) / len(set(member.channels.tolist()))
        empty = values.new_zeros(self._sizes[member.group], *values.shape[1:])
        return empty.index_add(0, channels, values[getattr(self, f"filters_{index}")] / repeats)


def scored_layers(producers: Sequence[Producer]) -> list[Producer]:
    """Layers whose filters are read; depthwise ones only for groups without other producers."""
    dense = [producer for producer in producers if not producer.depthwise]
    groups = {producer.group for producer in dense}
    return dense + [producer for producer in producers if producer.group not in groups]


def _ridge_regression(filters: Sequence[Tensor], scores: Tensor) -> tuple[Tensor, Tensor]:
    """Dual weights [C] and offset [] that give scores [C] from the members' filters [C, n]."""
    gram = torch.stack([rows @ rows.T for rows in filters]).sum(0)
    ridge = _RIDGE * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram)).to(gram)
    wanted = scores.to(gram)
    solved = torch.linalg.solve(gram + ridge, torch.stack([wanted, torch.ones_like(wanted)], dim=1))
    offset = solved[:, 0].sum() / solved[:, 1].sum()
    return solved[:, 0] - offset * solved[:, 1], offset


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
        """Set the scores exactly."""
        for own, wanted in zip(self.scores, scores, strict=True):
            own.copy_(wanted)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """A step of Adam moves every score by its rate."""
        return [{"params": list(self.scores), "lr": lr}]

    def forward(self, model: nn.Module) -> list[Tensor]:
        return list(self.scores)


class Gates:
    """Multiplies gates into a model's forward pass, at the places found by the graph analysis.

    Gates follow batch norm: before it, the norm's shift would leak through a closed gate. They
    multiply its scale and shift, which costs no pass over the features.

    Args:
        outputs: Modules whose outputs are multiplied; by default those of `traced.gates`.
        inputs: Layers whose inputs are multiplied; none by default.
    """

    def __init__(
        self,
        model: nn.Module,
        traced: Traced,
        *,
        outputs: Sequence[GatePoint] | None = None,
        inputs: Sequence[Reader] = (),
    ) -> None:
        device = next(model.parameters()).device
        sizes = [group.width for group in traced.space.groups]
        starts = torch.tensor([sum(sizes[:g]) for g in range(len(sizes))], device=device)
        self._model = model
        self._total = sum(sizes)
        self._outputs = [
            self._place(point, starts) for point in (traced.gates if outputs is None else outputs)
        ]
        self._inputs = [self._place(reader, starts) for reader in inputs]
        self._padded: Tensor | None = None

    def _place(self, point: GatePoint | Reader, starts: Tensor) -> tuple[str, int, Tensor]:
        """Module, axis and index into the padded gates [P]."""
        group = torch.as_tensor(point.group, device=starts.device)
        channel = torch.as_tensor(point.channel, device=starts.device)
        # positions that are never removed read the one that is appended to the gates
        index = torch.where(group >= 0, starts[group.clamp_min(0)] + channel, self._total)
        return point.module, point.axis, index

    def set(self, gates: Sequence[Tensor]) -> None:
        """Set the gates of the next forward passes: [G][C], or [G][images, C] for a separate
        gradient of each image.
        """
        self._padded = torch.cat([*gates, gates[0].new_ones(*gates[0].shape[:-1], 1)], dim=-1)

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Gate the model's forward pass while the context is open."""
        handles = [
            handle
            for name, axis, index in self._outputs
            for handle in self._gated(self._model.get_submodule(name), axis, index)
        ] + [
            self._model.get_submodule(name).register_forward_pre_hook(self._pre_hook(axis, index))
            for name, axis, index in self._inputs
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _gated(self, module: nn.Module, axis: int, index: Tensor) -> list[RemovableHandle]:
        if axis != 1 or not _has_own_scale(module):
            return [module.register_forward_hook(self._hook(axis, index))]
        return [
            module.register_forward_pre_hook(self._scale_hook(index)),
            module.register_forward_hook(self._hook(axis, index), always_call=True),
        ]

    def _scale_hook(self, index: Tensor) -> Any:
        def scale(module: nn.BatchNorm2d, _inputs: object) -> None:
            if self._padded is None or self._padded.dim() > 1:
                return  # images with gates of their own
            gates = self._padded.index_select(0, index)
            # hides the parameters, which stay what they are
            module.__dict__.update({name: getattr(module, name) * gates for name in _OWN})

        return scale

    def _hook(self, axis: int, index: Tensor) -> Any:
        def multiply(module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            if _OWN[0] in module.__dict__:
                for name in _OWN:
                    del module.__dict__[name]
                return output
            return output * self._along(index, output, axis)

        return multiply

    def _pre_hook(self, axis: int, index: Tensor) -> Any:
        def multiply(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            first, *rest = inputs
            return first * self._along(index, first, axis), *rest

        return multiply

    def _along(self, index: Tensor, values: Tensor, axis: int) -> Tensor:
        assert self._padded is not None, "set() comes before the forward pass"
        return _along(self._padded.index_select(-1, index), values, axis)


def _has_own_scale(module: nn.Module) -> bool:
    """Whether a module is a plain batch norm with scale and shift, and nothing looks at its
    output.
    """
    is_plain = type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    has_both = all(module._parameters.get(name) is not None for name in _OWN)
    return is_plain and has_both and not module._forward_hooks


def masks(keep: Sequence[Ints], sizes: Sequence[int], model: nn.Module) -> list[Tensor]:
    """Gates [G][C] that are open only for the channels `keep` [G][width].

    Args:
        sizes: Number of channels of each group [G].
    """
    like = next(model.parameters())
    found = [torch.zeros(size).to(like) for size in sizes]
    for mask, kept in zip(found, keep, strict=True):
        mask[torch.from_numpy(kept).to(like.device)] = 1
    return found


def _along(gates: Tensor, output: Tensor, axis: int) -> Tensor:
    """Gates [P] or [images, P], reshaped to multiply an output along its axis of P channels."""
    shape = [1] * output.dim()
    shape[axis] = gates.shape[-1]
    if gates.dim() == 1:
        return gates.view(shape)
    copies, rest = divmod(len(output), len(gates))
    if rest or axis % output.dim() == 0:
        # images cannot be told apart there
        return gates.mean(0).view(shape)
    shape[0] = len(output)
    return gates.repeat_interleave(copies, 0).view(shape)


def filters_of(model: nn.Module, name: str) -> Tensor:
    """Weights of a layer by filter [filters, weights of a filter]."""
    module = model.get_submodule(name)
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        groups = module.groups
        inputs, per_group = weight.shape[:2]
        by_group = weight.reshape(groups, inputs // groups, per_group, -1)
        return by_group.transpose(1, 2).reshape(groups * per_group, -1)
    return weight.flatten(1)
