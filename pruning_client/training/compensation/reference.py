"""Outputs of the layers of the network that is imitated, at some positions of some images."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pruning_client.training.compensation.affine import scales_and_shifts
from pruning_client.training.compensation.patches import PatchLayer, place_count
from pruning_client.training.compensation.tracking import Chain, Tracker

#: Number of positions for each unknown of a layer's regression, their least number, and the largest
#: number of values in all their patches.
_PLACES_EACH = 40
_LEAST_PLACES = 4096
_MOST_VALUES = 2**25
#: Number of values of the reference network's outputs from which no more layers are held.
_MOST_HELD = 2**26
#: Error, relative to the largest value, within which a module is what it is taken for.
_TOLERANCE = 1e-3
#: Positions at which a layer is compared with what it is taken for.
_COMPARED = 4


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a layer of the smaller network is to compute."""

    #: Positions [N, P] of the output, for each entry of its first axis.
    places: Tensor
    #: Shape of the layer's output.
    shape: tuple[int, ...]
    #: Outputs there [G, S, O]: those of the norm behind the layer if `through_norm`.
    outputs: Tensor
    #: Batch norm that directly follows.
    norm: str | None = None
    #: Whether all that this norm does is to scale and shift each channel.
    through_norm: bool = False
    #: What is added to the outputs directly behind [G, S, O].
    beside: Tensor | None = None


class Reference:
    """Runs the network that is imitated, and holds what its layers compute.

    As much as fits into memory is held at a time; the network runs again for the layers behind.

    Args:
        model: Network in eval mode.
        closed: Context in which its own gates are closed.
        layers: Layers to imitate, by name.
        norms: Batch norms by name.
        inputs: Inputs of the network, each [N, ...].
        seed: Seed of the positions.
    """

    def __init__(
        self,
        model: nn.Module,
        closed: Callable[[], AbstractContextManager[Any]],
        layers: Mapping[str, PatchLayer],
        norms: Mapping[str, nn.Module],
        inputs: tuple[Tensor, ...],
        seed: int,
    ) -> None:
        self._model = model
        self._closed = closed
        self._layers = layers
        self._norms = norms
        self._inputs = inputs
        self._seed = seed
        self._left = dict.fromkeys(layers)
        self._held: dict[str, Wanted] = {}
        self._seen: set[str] = set()
        self._values = 0
        self._first = ""

    def take(self, name: str) -> Wanted | None:
        """What a layer is to compute, which is held no longer, or None if it cannot be imitated.

        A layer cannot be imitated that runs more than once in a forward pass, or is no plain
        convolution or linear layer.
        """
        if name in self._left:
            self._run(first=name)
        wanted = self._held.pop(name, None)
        self._values -= 0 if wanted is None else wanted.outputs.numel()
        return wanted

    def _run(self, first: str) -> None:
        """Record `first`, and those of the layers that are left which fit into memory."""
        self._seen = set()
        self._first = first
        modules = {name: self._model.get_submodule(name) for name in self._layers}
        tracker = Tracker(modules, self._norms, self._add_norm, self._add_sum)
        with self._closed():
            hooks = [
                module.register_forward_hook(self._recorder(name))
                for name, module in modules.items()
            ]
            try:
                with tracker.attached(), torch.no_grad():
                    self._model(*self._inputs)
            finally:
                for hook in hooks:
                    hook.remove()
        for name in set(self._left) - self._seen:
            del self._left[name]

    def _recorder(self, name: str) -> Any:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if name in self._seen:
                # its second call of this pass
                self._held.pop(name, None)
                return
            self._seen.add(name)
            is_full = self._values > _MOST_HELD and name != self._first
            if name not in self._left or is_full:
                return
            del self._left[name]
            wanted = self._wanted(name, module, inputs, output)
            if wanted is not None:
                self._held[name] = wanted
                self._values += wanted.outputs.numel()

        return record

    def _wanted(
        self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any
    ) -> Wanted | None:
        layer = self._layers[name]
        if len(inputs) != 1 or not torch.is_tensor(output) or layer.is_empty:
            return None
        shape = tuple(output.shape)
        if not _is_plain(module, inputs[0], output):
            return None
        places = self._places(name, layer, module, output)
        return Wanted(places=places, shape=shape, outputs=layer.outputs(output, places))

    def _places(self, name: str, layer: PatchLayer, module: nn.Module, output: Tensor) -> Tensor:
        """Positions [N, P], all of them where they are few."""
        entries, count = len(output), place_count(module, output)
        most = _MOST_VALUES // max(1, layer.size)
        wanted = min(max(_PLACES_EACH * layer.unknowns, _LEAST_PLACES), most)
        each = max(1, wanted // entries)
        if each >= count:
            return torch.arange(count, device=output.device).expand(entries, count)
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + self._seed)
        drawn = torch.randint(count, (entries, each), generator=generator)
        return drawn.to(output.device)

    def _add_norm(self, chain: Chain, output: Tensor) -> bool:
        """Record the output of a norm in place of its layer's, if it is only scaled and shifted."""
        assert chain.norm is not None
        wanted = self._held.get(chain.layer)
        if wanted is None or wanted.norm is not None:
            return False
        layer, norm = self._layers[chain.layer], self._norms[chain.norm]
        found = layer.outputs(output, wanted.places)
        scale, shift = (layer.of_channels(part) for part in scales_and_shifts(norm))
        expected = wanted.outputs * scale[:, None] + shift[:, None]
        is_affine = _agree(found, expected)
        self._held[chain.layer] = replace(
            wanted,
            norm=chain.norm,
            through_norm=is_affine,
            outputs=found if is_affine else wanted.outputs,
        )
        return is_affine

    def _add_sum(self, chain: Chain, _operand: Tensor, other: Tensor) -> None:
        wanted = self._held.get(chain.layer)
        if wanted is None or wanted.beside is not None:
            return
        beside = self._layers[chain.layer].outputs(other, wanted.places)
        self._held[chain.layer] = replace(wanted, beside=beside)


def _is_plain(module: nn.Module, inputs: Tensor, output: Tensor) -> bool:
    """Whether a module computes what `PatchLayer` says: others make something of their weights or
    their inputs first.
    """
    layer = PatchLayer.whole(module)
    count = place_count(module, output)
    some = torch.linspace(0, count - 1, min(count, _COMPARED), device=output.device).long()[None]
    found = layer.patches(inputs[:1], tuple(output.shape), some) @ layer.matrix()
    return _agree(found + layer.constants()[:, None], layer.outputs(output[:1], some))


def _agree(one: Tensor, other: Tensor) -> bool:
    size = other.abs().max().clamp_min(1e-6)
    return bool((one - other).abs().max() <= _TOLERANCE * size)
