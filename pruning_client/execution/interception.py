"""Calls of torch's functions, watched or answered by others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode


class Interception(TorchFunctionMode):
    """Context in which `call` is made in place of each function of torch."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self.call(func, args, dict(kwargs or {}))

    @abstractmethod
    def call(self, function: Callable[..., Any], args: Sequence[Any], given: dict[str, Any]) -> Any:
        """What a function returns for these arguments; `given` are those given by name."""
