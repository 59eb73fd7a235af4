"""Latency predictors in torch: one autograd function over value and gradient, local or served."""

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
    """Origin of predictions. One call is one evaluation; it may be repeated after an error."""

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        """Predictions for `widths` [B, G] in channels, which need not be whole."""


class LocalSource:
    """The predictor's artifact in this process, on one thread of ONNX Runtime."""

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
    """The same artifact in the service, queried over HTTP."""

    def __init__(self, client: Client, predictor_id: str) -> None:
        self._client = client
        self._id = predictor_id

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        response = self._client.predict_batch(self._id, widths, gradient=True)
        assert response.gradient is not None
        return LatencyEstimate(
            latency_ms=response.latency_ms,
            gradient=response.gradient,
            lower_ms=response.lower_ms,
            upper_ms=response.upper_ms,
        )


class LatencyFunction(torch.autograd.Function):
    """Latency [B] in ms of `widths` [B, G], with the predictor's own gradient.

    Back-propagation needs nothing but value and gradient, whatever the model behind the predictor
    (docs/design.md, section 4). Not differentiable twice.
    """

    @staticmethod
    def forward(ctx: Any, widths: Tensor, source: Source) -> Tensor:
        plain = widths.detach().to("cpu", torch.float32).contiguous().numpy()
        estimate = source.evaluate(plain)
        ctx.save_for_backward(torch.as_tensor(estimate.gradient).to(widths))
        return torch.as_tensor(estimate.latency_ms).to(widths)

    @staticmethod
    @once_differentiable  # type: ignore[misc,untyped-decorator,unused-ignore]
    def backward(ctx: Any, grad_latency: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad_latency[:, None] * gradient, None


class Predictor:
    """A trained latency predictor of one search space on one target.

    Attributes:
        view: its description by the service.
        source: the origin of its predictions.
    """

    def __init__(self, view: PredictorView, source: Source) -> None:
        self.view = view
        self.source = source

    @classmethod
    def local(cls, client: Client, view: PredictorView) -> Predictor:
        """A predictor that runs here; its artifact is fetched once, checked by hash and kept."""
        return cls(view, LocalSource(client.artifact(view)))

    @classmethod
    def served(cls, client: Client, view: PredictorView) -> Predictor:
        """A predictor that asks the service for every prediction."""
        return cls(view, ServedSource(client, view.id))

    @property
    def sidecar(self) -> Sidecar:
        return self.view.sidecar

    @property
    def lattice(self) -> list[list[int]]:
        """Widths worth using on the target, ascending, of each group [G][...]."""
        return self.view.sidecar.lattice

    def __call__(self, widths: Tensor) -> Tensor:
        """Differentiable latency in ms: [] of one width vector [G], [B] of many [B, G].

        Raises:
            ValueError: the last axis is not one width for each group.
        """
        self._check_shape(widths)
        many = widths if widths.dim() == 2 else widths[None]
        latency: Tensor = LatencyFunction.apply(many, self.source)  # type: ignore[no-untyped-call]
        return latency if widths.dim() == 2 else latency[0]

    def latency_ms(self, widths: Sequence[Sequence[int]]) -> Floats:
        """Latency [B] in ms of whole width vectors [B][G], in one query."""
        return np.asarray(self.evaluate(widths).latency_ms, np.float64)

    def one_ms(self, widths: Sequence[int]) -> float:
        """Latency in ms of one width vector [G]."""
        return float(self.latency_ms([widths])[0])

    def evaluate(self, widths: Sequence[Sequence[int]]) -> LatencyEstimate:
        """Value, gradient and interval of whole width vectors [B][G]."""
        return self.source.evaluate(np.asarray(widths, np.float32).reshape(len(widths), -1))

    def _check_shape(self, widths: Tensor) -> None:
        groups = len(self.sidecar.groups)
        if widths.dim() not in (1, 2) or widths.shape[-1] != groups:
            raise ValueError(
                f"widths of shape {tuple(widths.shape)}: give [{groups}] or [B, {groups}]"
            )
