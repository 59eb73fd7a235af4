"""The bridge from a predictor to back-propagation: one autograd function over value and gradient,
local or served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnxruntime
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from latency_service.core.arrays import Floats, Floats32
from latency_service.predictors.schemas import PredictorView, Sidecar

if TYPE_CHECKING:
    from latency_service.core.client import Client

#: Width of each group [G], in channels.
Widths = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LatencyEstimate:
    """A prediction for B architectures. Latencies in ms, gradient in ms per channel."""

    #: [B]
    latency_ms: Floats32
    #: [B, G]
    gradient: Floats32
    #: [B]
    lower_ms: Floats32
    upper_ms: Floats32


class Source(Protocol):
    """Where predictions come from. One call is one evaluation; safe to call again after an
    error.
    """

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        """Predictions for `widths` [B, G] in channels, whole or not."""


class LocalSource:
    """The artifact in this process, on one thread of ONNX Runtime."""

    def __init__(self, artifact: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            artifact, options, providers=["CPUExecutionProvider"]
        )

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        names = ["latency_ms", "gradient", "lower_ms", "upper_ms"]
        latency, gradient, lower, upper = self._session.run(names, {"widths": widths})
        return LatencyEstimate(
            latency_ms=latency, gradient=gradient, lower_ms=lower, upper_ms=upper
        )


class ServedSource:
    """The same artifact in the service, asked over HTTP."""

    def __init__(self, client: Client, predictor_id: str) -> None:
        self._client = client
        self._id = predictor_id

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        answer = self._client.predict_batch(self._id, widths, gradient=True)
        assert answer.gradient is not None
        return LatencyEstimate(
            latency_ms=answer.latency_ms,
            gradient=answer.gradient,
            lower_ms=answer.lower_ms,
            upper_ms=answer.upper_ms,
        )


class LatencyFunction(torch.autograd.Function):
    """Latency [B] in ms of `widths` [B, G]; its gradient is the one that the predictor answers
    with.

    Whatever the model behind the predictor, back-propagation needs its value and gradient and
    nothing more (docs/design.md, section 4). Not differentiable twice.
    """

    @staticmethod
    def forward(ctx: Any, widths: Tensor, source: Source) -> Tensor:
        answer = source.evaluate(widths.detach().to("cpu", torch.float32).contiguous().numpy())
        ctx.save_for_backward(torch.as_tensor(answer.gradient).to(widths))
        return torch.as_tensor(answer.latency_ms).to(widths)

    @staticmethod
    @once_differentiable  # type: ignore[misc,untyped-decorator,unused-ignore]
    def backward(ctx: Any, grad_latency: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad_latency[:, None] * gradient, None


class Predictor:
    """A trained latency predictor of one search space on one target.

    Attributes:
        view: what the service says of it.
        source: where predictions come from.
    """

    def __init__(self, view: PredictorView, source: Source) -> None:
        self.view = view
        self.source = source

    @classmethod
    def local(cls, client: Client, view: PredictorView) -> Predictor:
        """Fetch the artifact once (kept on disk, checked by its hash) and run it here."""
        return cls(view, LocalSource(client.artifact(view)))

    @classmethod
    def served(cls, client: Client, view: PredictorView) -> Predictor:
        """Ask the service for every prediction."""
        return cls(view, ServedSource(client, view.id))

    @property
    def sidecar(self) -> Sidecar:
        return self.view.sidecar

    @property
    def lattice(self) -> list[list[int]]:
        """For each group the widths worth using on the target, ascending [G][...]."""
        return self.view.sidecar.lattice

    def __call__(self, widths: Tensor) -> Tensor:
        """Latency in ms, differentiable: [] of one width vector [G], [B] of many [B, G].

        Raises:
            ValueError: the last axis is not one width for each group.
        """
        groups = len(self.sidecar.groups)
        if widths.dim() not in (1, 2) or widths.shape[-1] != groups:
            raise ValueError(
                f"widths of shape {tuple(widths.shape)}: give [{groups}] or [B, {groups}]"
            )
        many = widths if widths.dim() == 2 else widths[None]
        latency: Tensor = LatencyFunction.apply(many, self.source)  # type: ignore[no-untyped-call]
        return latency if widths.dim() == 2 else latency[0]

    def latency_ms(self, widths: Sequence[Sequence[int]]) -> Floats:
        """Latency [B] in ms of whole width vectors [B][G]; many are asked for at once."""
        return np.asarray(self.evaluate(widths).latency_ms, np.float64)

    def one_ms(self, widths: Sequence[int]) -> float:
        """Latency in ms of one width vector [G]."""
        return float(self.latency_ms([widths])[0])

    def evaluate(self, widths: Sequence[Sequence[int]]) -> LatencyEstimate:
        """Value, gradient and interval of whole width vectors [B][G]."""
        return self.source.evaluate(np.asarray(widths, np.float32).reshape(len(widths), -1))
