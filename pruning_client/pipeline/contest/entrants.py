"""The methods of a contest, each with a name of its own and its share of the training effort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pruning_client.errors import UsageError
from pruning_client.methods.base import Method
from pruning_client.methods.effort import own_epochs
from pruning_client.methods.registry import options_of
from pruning_client.pipeline.settings import JobSettings


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One method of a contest."""

    #: Name in tables and of the folder: the method's, with options where several share it.
    label: str
    method: Method
    #: Epochs of training in the method's own `run`.
    own_epochs: int
    #: Epochs of fine-tuning after the channels are removed.
    finetune_epochs: int

    def settings(self, shared: JobSettings, seed: int) -> JobSettings:
        """Settings of this method's jobs."""
        training = replace(shared.training, epochs=self.finetune_epochs, seed=seed)
        return replace(shared, method=self.method, training=training)


def entrants_of(methods: Sequence[Method], finetune_epochs: int) -> list[Entrant]:
    """The methods with equal training effort.

    The method that trains longest in its own `run` fine-tunes for `finetune_epochs`; every other
    one for as many epochs more as it trains fewer itself.

    Raises:
        UsageError: There is no method, or one is given twice.
    """
    if not methods:
        raise UsageError("There is no method.", "Give some, such as w-gates and l1.")
    labels = _labels(methods)
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise UsageError(f"The method {twice[0]!r} is given twice.", "Give each method once.")
    total = finetune_epochs + max(map(own_epochs, methods))
    return [
        Entrant(
            label=label,
            method=method,
            own_epochs=own_epochs(method),
            finetune_epochs=total - own_epochs(method),
        )
        for label, method in zip(labels, methods, strict=True)
    ]


def _labels(methods: Sequence[Method]) -> list[str]:
    names = Counter(method.name for method in methods)
    return [
        method.name
        if names[method.name] == 1
        else _with_options(method, [other for other in methods if other.name == method.name])
        for method in methods
    ]


def _with_options(method: Method, namesakes: Sequence[Method]) -> str:
    """A method's name with the options that tell it from its namesakes."""
    own = options_of(method)
    shown = [
        f"{name}={value}"
        for name, value in own.items()
        if any(options_of(other).get(name, _ABSENT) != value for other in namesakes)
    ]
    return " ".join([method.name, *shown])


_ABSENT: Any = object()
