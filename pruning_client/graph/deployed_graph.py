"""The graph of a network's deployed form, with the width groups of the form that is trained.

A fused weight has another name and another graph than what it was made of, so that its channels are
tied to those of the trained form by experiment: random weights of the trained form are changed for
half of the channels at a time and fused again. A position of a fused weight follows the channel
with which it changes each time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Array, Bools, Ints
from latency_service.spaces import slicing
from latency_service.spaces.plan import expand
from latency_service.spaces.weightless import make_weightless, settings_of
from pruning_client.execution.copies import copied
from pruning_client.graph import comparison, proof
from pruning_client.graph.deploy import deployed, fused
from pruning_client.graph.errors import DeployError
from pruning_client.graph.export import tensors, trace
from pruning_client.graph.flow import Flow
from pruning_client.graph.layout import Layout, make_manifest
from pruning_client.graph.modes import structure_of
from pruning_client.graph.rules import RULES
from pruning_client.graph.surgery import slim
from pruning_client.graph.traced import Deploy, DeployedForm, GraphForm, Traced, stored_weights

_UNTIED = "the deployed form has no channel that follows it alone"


class DeployedGraph:
    """Graph of the deployed form, whose channels are united with those of the trained form.

    Raises:
        DeployError: The hook fails, or its network has other outputs.
        ExportError: Its network cannot be exported.
    """

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...], hook: Deploy) -> None:
        made = deployed(model, hook, inputs)
        graph = trace(made, inputs)
        self._bare = make_weightless(graph)
        self._weights = stored_weights(graph, self._bare)
        with torch.no_grad():
            self._structure = structure_of(made(*inputs))
        self._flow = Flow(graph, RULES)
        self._flow.run()
        self._model = model
        self._inputs = inputs
        self._hook = hook
        #: Atom of the deployed form that follows each representative of the trained form.
        self._atoms: dict[int, int] | None = None

    def pin_untied(self, flow: Flow, layout: Layout) -> bool:
        """Pin the channels of the trained form that the deployed form lacks or never loses, and
        return whether there were any.
        """
        if self._atoms is None:
            self._atoms = self._tied(layout)
        table = self._flow.table
        failing: dict[str, list[int]] = {}
        for root in np.concatenate([*layout.channels, np.zeros(0, np.int64)]).tolist():
            atom = self._atoms.get(root)
            if atom is None:
                failing.setdefault(_UNTIED, []).append(root)
            elif table.is_pinned(table.find(atom)):
                failing.setdefault(table.reason(table.find(atom)), []).append(root)
        for reason, roots in failing.items():
            flow.table.pin(np.array(roots, np.int64), reason)
        return bool(failing)

    def form(self, layout: Layout) -> DeployedForm:
        """The graph with the width groups of the trained form; no channel of them is untied."""
        atoms = self._atoms or {}
        channels = [
            np.array([self._flow.table.find(atoms[root]) for root in members.tolist()], np.int64)
            for members in layout.channels
        ]
        manifest = make_manifest(self._flow, layout.manifest, channels).model_copy(
            update={"unprunable": layout.manifest.unprunable}
        )
        return DeployedForm(
            hook=self._hook,
            graph=GraphForm(
                space=slicing.build_space(self._bare, manifest),
                weights=self._weights,
                structure=self._structure,
            ),
        )

    def _tied(self, layout: Layout) -> dict[int, int]:
        roots = np.concatenate([*layout.channels, np.zeros(0, np.int64)])
        codes = _codes(len(roots))
        found = _decoded(self._observed(layout, codes), codes)
        first: dict[int, int] = {}
        for atom, channel in found.items():
            other = first.setdefault(int(roots[channel]), atom)
            self._flow.table.unite(np.array([other]), np.array([atom]), "")
        return first

    def _observed(self, layout: Layout, codes: Bools) -> dict[int, Bools]:
        """Trials in which all values change at the positions of each representative of the deployed
        form; values that never change do not count.

        Args:
            codes: Whether the weights of each channel change in each trial [channels, trials].
        """
        twin = proof.redrawn(self._model, example=self._inputs)
        places = _places(twin, layout)
        before = self._fused(twin)
        everything = np.ones(len(codes), bool)
        can_change = _differing(before, self._fused(_changed(twin, places, everything)))
        observed: dict[int, Bools] = {}
        for trial in range(codes.shape[1]):
            after = self._fused(_changed(twin, places, codes[:, trial]))
            for name, changes in _differing(before, after).items():
                self._note(name, changes, can_change[name], trial, observed, codes.shape[1])
        return observed

    def _note(
        self,
        name: str,
        changes: Bools,
        can_change: Bools,
        trial: int,
        observed: dict[int, Bools],
        trials: int,
    ) -> None:
        """Note of each position on each axis of a weight whether all of it changes in a trial."""
        for axis, atoms in enumerate(self._flow.labels[name]):
            others = tuple(other for other in range(changes.ndim) if other != axis)
            whole = np.all(changes | ~can_change, axis=others)
            counts = np.any(can_change, axis=others)
            roots = self._flow.table.roots(atoms)
            for root, is_whole in zip(roots[counts].tolist(), whole[counts].tolist(), strict=True):
                observed.setdefault(root, np.ones(trials, bool))[trial] &= is_whole

    def _fused(self, twin: nn.Module) -> dict[str, Array]:
        """Weights of the deployed form of a network with random weights."""
        return {
            name: value.detach().numpy()
            for name, value in tensors(fused(copied(twin), self._hook))
            if name in self._flow.tensors and value.is_floating_point()
        }


def check_deployed(model: nn.Module, traced: Traced) -> None:
    """Compare the deployed form of a smaller network with the smaller graph of the deployed form.

    Raises:
        DeployError: They differ, or the hook fails on the smaller network.
    """
    form = traced.deployed
    if form is None:
        return
    settings = settings_of(form.graph.space.model) | settings_of(traced.space.model)
    twin = proof.redrawn(model, example=traced.example, settings=settings)
    keep = proof.random_keep(traced.space)
    small = deployed(slim(twin, traced, keep), form.hook, traced.example, traced)
    dense = deployed(twin, form.hook, traced.example)
    try:
        graph = slicing.materialise(
            form.graph.space,
            [len(channels) for channels in keep],
            keep=keep,
            weights=proof.weights_of(dense, form.graph.weights),
        )
        found = proof.run_onnx(graph, traced.example)
    except Exception as error:
        raise _untied(model, f"its graph does not run: {error}") from error
    if not comparison.agree(found, proof.run_torch(small, traced.example)):
        raise _untied(model, "it computes something else")


def _untied(model: nn.Module, fault: str) -> DeployError:
    return DeployError(
        f"The channels of the deployed form of {type(model).__name__} cannot be tied to those of "
        f"the network: with some removed from both, {fault}.",
        "Let each fused weight keep the order of the channels that it was made of; or prune the "
        "network in its deployed form, without the hook.",
    )


#: Values of a weight that follow a channel: positions [P] on an axis, and their channels.
_Places = dict[str, list[tuple[int, Ints, Ints]]]


def _places(model: nn.Module, layout: Layout) -> _Places:
    """Positions that follow a channel on each axis of each weight, with the channel's number."""
    offsets = np.cumsum([0, *(len(members) for members in layout.channels)])
    own = {name for name, value in tensors(model) if value.is_floating_point()}
    places: _Places = {}
    for entry in layout.manifest.slices:
        if entry.initializer in own:
            groups, channels = expand(entry.segments)
            positions = np.flatnonzero(groups >= 0)
            numbers = offsets[groups[positions]] + channels[positions]
            places.setdefault(entry.initializer, []).append((entry.axis, positions, numbers))
    return places


def _changed(twin: nn.Module, places: _Places, chosen: Bools) -> nn.Module:
    """A copy whose weights are changed, each by its own factor, where they follow a channel that is
    chosen.
    """
    other = copied(twin)
    random = torch.Generator().manual_seed(1)
    own = dict(tensors(other))
    with torch.no_grad():
        for name, axes in places.items():
            value = own[name]
            factor = 0.5 + torch.rand(value.shape, generator=random)
            mask = torch.zeros(value.shape, dtype=torch.bool)
            for axis, positions, numbers in axes:
                hit = torch.from_numpy(positions[chosen[numbers]])
                mask.index_fill_(axis, hit, True)
            value.copy_(torch.where(mask, value * factor, value))
    return other


def _differing(before: Mapping[str, Array], after: Mapping[str, Array]) -> dict[str, Bools]:
    return {name: before[name] != after[name] for name in before}


def _codes(count: int) -> Bools:
    """Distinct codes [count, trials] with as many ones as zeros: none contains another."""
    trials = 2 * (8 + math.ceil(math.log2(count + 1)))
    random = np.random.default_rng(0)
    found: dict[bytes, Bools] = {}
    while len(found) < count:
        code = random.permutation(trials) < trials // 2
        found.setdefault(code.tobytes(), code)
    return np.stack(list(found.values())) if found else np.zeros((0, trials), bool)


def _decoded(observed: Mapping[int, Bools], codes: Bools) -> dict[int, int]:
    """Number of the channel that each representative follows.

    A position changes in every trial of its channel's code. It may change in more where the other
    axes of its weight are short; then exactly one code must be contained in what is observed.
    """
    exact = {code.tobytes(): number for number, code in enumerate(codes)}
    found: dict[int, int] = {}
    for root, trials in observed.items():
        number = exact.get(trials.tobytes())
        if number is None:
            contained = np.flatnonzero(~np.any(codes & ~trials, axis=1))
            number = int(contained[0]) if len(contained) == 1 else None
        if number is not None:
            found[root] = number
    return found
