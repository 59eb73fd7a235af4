"""Which batch norm and which sum directly follow each layer of a network, found as it runs."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_ADDITIONS = ("add", "add_", "__add__", "__radd__", "__iadd__")


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A layer, and the batch norm behind it."""

    layer: str
    norm: str | None = None


#: Called with the chain of one operand of a sum, that operand and the other.
OnSum = Callable[[Chain, Tensor, Tensor], None]


class Tracker(TorchFunctionMode):
    """Follows the outputs of layers, by the identity of tensors, through batch norms to sums.

    A tensor that was changed in place is not followed any further. The forward hooks of an instance
    come after those that are registered before it.

    Args:
        layers: Layers by name.
        norms: Batch norms by name.
        on_norm: Called with the chain of a batch norm's output and that output; returns whether it
            is followed.
        on_sum: Called before the sum is computed, for each operand that is followed; it may change
            the operand in place.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        norms: Mapping[str, nn.Module],
        on_norm: Callable[[Chain, Tensor], bool],
        on_sum: OnSum,
    ) -> None:
        super().__init__()
        self._layers = layers
        self._norms = norms
        self._on_norm = on_norm
        self._on_sum = on_sum
        self._known: dict[int, tuple[weakref.ref[Tensor], int, Chain]] = {}

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Follow the outputs of the network's forward passes while the context is open."""
        handles = [
            module.register_forward_hook(self._after_layer(name))
            for name, module in self._layers.items()
        ]
        handles += [
            module.register_forward_hook(self._after_norm(name))
            for name, module in self._norms.items()
        ]
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()
            self._known.clear()

    def __torch_function__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        is_sum = getattr(function, "__name__", "") in _ADDITIONS
        if is_sum and not kwargs and len(args) == 2 and all(map(torch.is_tensor, args)):
            self._sum(*args)
        return function(*args, **(kwargs or {}))

    def _sum(self, one: Tensor, other: Tensor) -> None:
        if one.shape != other.shape:
            return
        for operand, beside in ((one, other), (other, one)):
            chain = self.chain_of(operand)
            if chain is not None:
                self._on_sum(chain, operand, beside)

    def _after_layer(self, name: str) -> Any:
        def follow(_module: nn.Module, _inputs: object, output: Any) -> None:
            if torch.is_tensor(output):
                self._follow(output, Chain(layer=name))

        return follow

    def _after_norm(self, name: str) -> Any:
        def follow(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            before = self.chain_of(inputs[0]) if inputs else None
            if before is None or before.norm is not None or not torch.is_tensor(output):
                return
            chain = Chain(layer=before.layer, norm=name)
            if self._on_norm(chain, output):
                self._follow(output, chain)

        return follow

    def _follow(self, tensor: Tensor, chain: Chain) -> None:
        self._known[id(tensor)] = (weakref.ref(tensor), tensor._version, chain)

    def chain_of(self, tensor: Any) -> Chain | None:
        """The chain that a tensor is the output of."""
        if not torch.is_tensor(tensor) or id(tensor) not in self._known:
            return None
        reference, version, chain = self._known[id(tensor)]
        return chain if reference() is tensor and tensor._version == version else None
