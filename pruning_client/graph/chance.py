"""Random functions of torch: what they are replaced by, so that two networks can be compared."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.execution.interception import Interception
from pruning_client.graph.modes import put_into_mode

_DROPOUTS = (
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    torch.dropout,
    torch.feature_dropout,
)


def _filled(value: float) -> Callable[..., Tensor]:
    """In place of a function that draws a tensor of a given shape."""

    def fill(*shape: Any, **given: Any) -> Tensor:
        given.pop("generator", None)
        sizes = given.pop("size", shape[0] if len(shape) == 1 else shape)
        return torch.full([sizes] if isinstance(sizes, int) else sizes, value, **given)

    return fill


def _filled_like(value: float) -> Callable[..., Tensor]:
    """In place of a function that draws a tensor of the shape of another."""

    def fill(x: Tensor, **given: Any) -> Tensor:
        return torch.full_like(x, value, **given)

    return fill


def _bernoulli(x: Tensor, p: float | None = None, **_: Any) -> Tensor:
    return x.clone() if p is None else torch.full_like(x, p)


def _bernoulli_in_place(x: Tensor, p: float | Tensor = 0.5, **_: Any) -> Tensor:
    return x.copy_(p) if isinstance(p, Tensor) else x.fill_(p)


def _normal(mean: Any, std: Any = 1.0, size: Any = None, **_: Any) -> Tensor:
    return mean + 0 * std if size is None else torch.full(size, float(mean))


def _normal_in_place(x: Tensor, mean: float = 0.0, *_: Any, **__: Any) -> Tensor:
    return x.fill_(mean)


def _uniform_in_place(x: Tensor, low: float = 0.0, high: float = 1.0, **given: Any) -> Tensor:
    return x.fill_((given.get("from", low) + given.get("to", high)) / 2)


def _exponential_in_place(x: Tensor, lambd: float = 1.0, **_: Any) -> Tensor:
    return x.fill_(1 / lambd)


def _permutation(count: int, **given: Any) -> Tensor:
    given.pop("generator", None)
    return torch.arange(count, **given)


def _gumbel_softmax(logits: Tensor, tau: float = 1.0, *_: Any, **given: Any) -> Tensor:
    return torch.softmax(logits / tau, given.get("dim", -1))


#: Functions that draw random numbers, and functions without chance that take their place: they
#: return means.
_WITHOUT_CHANCE: Mapping[Any, Callable[..., Any]] = {
    torch.rand: _filled(0.5),
    torch.randn: _filled(0.0),
    torch.rand_like: _filled_like(0.5),
    torch.randn_like: _filled_like(0.0),
    torch.bernoulli: _bernoulli,
    Tensor.bernoulli: _bernoulli,
    Tensor.bernoulli_: _bernoulli_in_place,
    torch.normal: _normal,
    Tensor.normal_: _normal_in_place,
    Tensor.uniform_: _uniform_in_place,
    Tensor.exponential_: _exponential_in_place,
    torch.randperm: _permutation,
    F.gumbel_softmax: _gumbel_softmax,
}


class WithoutDropout(Interception):
    """Context in which dropout returns its input, in training mode too, and torch's other random
    functions return what they do on average.
    """

    def call(self, function: Callable[..., Any], args: Sequence[Any], given: dict[str, Any]) -> Any:
        if function in _DROPOUTS:
            return args[0] if args else given["input"]
        return _WITHOUT_CHANCE.get(function, function)(*args, **given)


class Draws(Interception):
    """Context that notes the calls of random functions.

    Args:
        note: Called with the name of each function that draws.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def call(self, function: Callable[..., Any], args: Sequence[Any], given: dict[str, Any]) -> Any:
        if function in _WITHOUT_CHANCE or (function in _DROPOUTS and _drops(*args, **given)):
            self._note(getattr(function, "__name__", str(function)))
        return function(*args, **given)


def _drops(
    _input: Tensor | None = None,
    p: float = 0.5,
    training: bool = True,
    *_: Any,
    **given: Any,
) -> bool:
    return p > 0 and bool(given.get("train", training))


@contextlib.contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Let a model take the way of a mode without chance, and put it into eval mode."""
    put_into_mode(model, training=training)
    try:
        with WithoutDropout():
            yield
    finally:
        model.eval()
