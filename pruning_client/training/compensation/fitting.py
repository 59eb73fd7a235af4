"""One pass through the smaller network in which each layer is fitted before those behind it run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pruning_client.training.batch_norm import is_frozen
from pruning_client.training.compensation.affine import scales_and_shifts, set_statistics
from pruning_client.training.compensation.patches import PatchLayer
from pruning_client.training.compensation.reference import Reference, Wanted
from pruning_client.training.compensation.ridge import Change, Samples, best_change
from pruning_client.training.compensation.tracking import Chain, Tracker

#: Scale of a norm, relative to the mean scale, below which its channel hardly counts.
_LEAST_SCALE = 1e-2


class LayerFitting:
    """Fits the layers of a network in place while it runs on calibration images.

    The inputs of a layer are what the layers before it compute after they were fitted; what it is
    to compute comes from the reference network. Where a layer's output is added to something, as
    in a residual block, the sum is what is imitated, so that a layer also makes up for the errors
    of the stream that it is added to.

    A layer starts with what recalibration does: the batch norm behind it has the statistics of its
    present outputs. So have all norms that are not behind a fitted layer.

    Args:
        model: Network with its gates closed, in eval mode.
        layers: Kept parts of its layers, by name.
        norms: Its batch norms, by name.
        held_out: Share of the images, the last ones, on which penalties are chosen.
        on_layer: Called with the number of layers that were reached and that of all.

    Attributes:
        changed: Names of the layers that were changed.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, PatchLayer],
        norms: Mapping[str, nn.Module],
        reference: Reference,
        *,
        held_out: float,
        on_layer: Callable[[int, int], None],
    ) -> None:
        self.changed: list[str] = []
        self._model = model
        self._layers = layers
        self._norms = norms
        self._reference = reference
        self._held_out = held_out
        self._on_layer = on_layer
        self._reached: set[str] = set()
        #: Layers that are fitted when their output is added: what they are to compute, patches
        #: there, and their input.
        self._waiting: dict[str, tuple[Wanted, Tensor, Tensor]] = {}
        self._runs_again = False

    def run(self, inputs: tuple[Tensor, ...]) -> None:
        """Fit all layers on inputs, each [N, ...]."""
        modules = {name: self._model.get_submodule(name) for name in self._layers}
        tracker = Tracker(modules, self._norms, self._follows_norm, self._fit_sum)
        hooks = [
            module.register_forward_pre_hook(self._before(name)) for name, module in modules.items()
        ]
        hooks += [
            norm.register_forward_pre_hook(self._recalibrating(tracker))
            for norm in self._norms.values()
            if not is_frozen(norm)
        ]
        try:
            with tracker.attached(), torch.no_grad():
                self._model(*inputs)
        finally:
            for hook in hooks:
                hook.remove()

    def _recalibrating(self, tracker: Tracker) -> Any:
        def recalibrate(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not inputs:
                return
            chain = tracker.chain_of(inputs[0])
            is_set = chain is not None and chain.layer in (*self.changed, *self._waiting)
            if not self._runs_again and not is_set:
                values = inputs[0].float().transpose(0, 1).flatten(1)
                set_statistics(norm, values.mean(1), values.var(1))

        return recalibrate

    def _before(self, name: str) -> Any:
        def reach(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if self._runs_again or name in self._reached:
                return
            self._reached.add(name)
            wanted = self._reference.take(name)
            if wanted is not None:
                self._reach(name, wanted, inputs[0])
            self._on_layer(len(self._reached), len(self._layers))

        return reach

    def _reach(self, name: str, wanted: Wanted, inputs: Tensor) -> None:
        patches = self._layers[name].patches(inputs, wanted.shape, wanted.places)
        if wanted.beside is None:
            self._fit(name, wanted, patches, None)
        else:
            self._waiting[name] = (wanted, patches, inputs)

    def _follows_norm(self, chain: Chain, _output: Tensor) -> bool:
        return chain.layer in self._waiting

    def _fit_sum(self, chain: Chain, operand: Tensor, other: Tensor) -> None:
        """Fit the layer behind one operand of a sum, and correct the operand."""
        found = self._waiting.pop(chain.layer, None)
        if found is None or found[0].norm != chain.norm:
            return
        wanted, patches, inputs = found
        beside = self._layers[chain.layer].outputs(other, wanted.places)
        self._fit(chain.layer, wanted, patches, beside)
        operand.copy_(self._again(chain, inputs))

    def _again(self, chain: Chain, inputs: Tensor) -> Tensor:
        """Output of a layer and its norm, with their gates, after the layer was changed."""
        self._runs_again = True
        try:
            output: Tensor = self._model.get_submodule(chain.layer)(inputs)
            return output if chain.norm is None else self._norms[chain.norm](output)
        finally:
            self._runs_again = False

    def _fit(self, name: str, wanted: Wanted, patches: Tensor, beside: Tensor | None) -> None:
        """Change a layer if that helps on held-out images."""
        layer = self._layers[name]
        samples = self._samples(layer, wanted, patches.float(), beside)
        held_out = round(self._held_out * patches.shape[1])
        fit, rest = samples.split(held_out)
        change = best_change(fit, rest, shifts=self._can_shift(name, wanted))
        if change is not None:
            self._apply(name, wanted, change)
            self.changed.append(name)

    def _samples(
        self, layer: PatchLayer, wanted: Wanted, patches: Tensor, beside: Tensor | None
    ) -> Samples:
        """What a layer's outputs lack, in units of the layer, not of the norm behind it."""
        present = patches @ layer.matrix().float() + layer.constants().float()[:, None]
        target = wanted.outputs.float()
        spread = target.var(1, correction=0)
        if not wanted.through_norm:
            lacking = target - present
            scale = torch.ones_like(spread)
        else:
            assert wanted.norm is not None
            norm = self._norms[wanted.norm]
            if not is_frozen(norm):
                self._set_statistics(norm, layer, present)
            parts = scales_and_shifts(norm)
            scale, shift = (layer.of_channels(part.float()) for part in parts)
            lacking = target - present * scale[:, None] - shift[:, None]
        if beside is not None:
            assert wanted.beside is not None
            lacking = lacking + wanted.beside.float() - beside.float()
        least = _LEAST_SCALE * scale.abs().mean()
        lacking = lacking * (scale / (scale.square() + least.square()))[:, None]
        weights = scale.square() / spread.clamp_min(1e-6 * float(spread.mean()) + 1e-12)
        return Samples(inputs=patches, lacking=lacking, weights=weights)

    @staticmethod
    def _set_statistics(norm: nn.Module, layer: PatchLayer, present: Tensor) -> None:
        """Let a norm have the statistics of a layer's outputs [G, S, O]."""
        means, variances = norm.running_mean, norm.running_var
        assert isinstance(means, Tensor)
        assert isinstance(variances, Tensor)
        mean = layer.replaced(means, present.mean(1))
        set_statistics(norm, mean, layer.replaced(variances, present.var(1)))

    def _can_shift(self, name: str, wanted: Wanted) -> bool:
        """Whether constants of a layer can change: its own, or the means of the norm behind it."""
        norm = None if wanted.norm is None else self._norms[wanted.norm]
        has_bias = self._model.get_submodule(name).bias is not None
        return has_bias or (norm is not None and not is_frozen(norm))

    def _apply(self, name: str, wanted: Wanted, change: Change) -> None:
        layer = self._layers[name]
        layer.add(change.weights)
        bias = self._model.get_submodule(name).bias
        if isinstance(bias, Tensor):
            bias.detach().add_(layer.all_channels(change.shift.to(bias), len(bias)))
        elif self._can_shift(name, wanted):
            assert wanted.norm is not None
            means = self._norms[wanted.norm].running_mean
            assert isinstance(means, Tensor)
            means.sub_(layer.all_channels(change.shift.to(means), len(means)))
