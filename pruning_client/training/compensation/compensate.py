"""Compensation: the layers that read removed channels are fitted to make up for them.

He, Zhang & Sun, "Channel pruning for accelerating very deep neural networks" (ICCV 2017), and Luo,
Wu & Lin, "ThiNet" (ICCV 2017), reconstruct the output of the layer that reads pruned channels by
least squares. Ours are the penalty on the change of the weights, chosen on held-out images, one
pass for all layers, sums as targets wherever the forward pass has them, and the choice between the
compensated and the plain network by their outputs.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from latency_service.spaces.plan import Keep
from pruning_client.data.batches import Batches
from pruning_client.execution import distributed
from pruning_client.execution.copies import copied
from pruning_client.execution.modes import evaluating
from pruning_client.execution.progress import Progress, ProgressEvent, silent
from pruning_client.graph import proof
from pruning_client.graph.traced import Traced
from pruning_client.training.batch_norm import estimate_statistics
from pruning_client.training.compensation.affine import affine_norms
from pruning_client.training.compensation.calibration import Calibration
from pruning_client.training.compensation.fitting import LayerFitting
from pruning_client.training.compensation.kept import kept_layers
from pruning_client.training.compensation.patches import PatchLayer
from pruning_client.training.compensation.reference import Reference
from pruning_client.training.config import Training
from pruning_client.training.outputs import output_distance

COMPENSATE = "compensate"


@dataclass(frozen=True, kw_only=True)
class Imitated:
    """The network whose layers are imitated."""

    #: Full-size network in eval mode.
    model: nn.Module
    #: Channels that it uses of each group [G][width]; all of them if None.
    keep: Keep | None = None


@dataclass(frozen=True, kw_only=True)
class Compensated:
    """A full-size network to cut."""

    model: nn.Module
    #: Whether layers were fitted for the batch norms' present scales and shifts, which a
    #: recalibration has to keep.
    keeps_scales: bool = False
    #: Names of the layers that were changed.
    layers: list[str] = field(default_factory=list)
    #: Distance of the outputs from the imitated network's on held-out images, with batch norms
    #: recalibrated: before and after.
    distances: tuple[float, float] | None = None


def compensate(
    model: nn.Module,
    traced: Traced,
    keep: Keep,
    data: Batches,
    training: Training,
    *,
    imitated: Imitated,
    progress: Progress = silent,
) -> Compensated:
    """Fit the layers of a network to the removal of channels, in closed form, without labels.

    Each convolution and linear layer is fitted in turn such that its outputs, from the inputs that
    the layers before it now compute, are nearest to those of the imitated network. A layer for
    which that does not help on held-out images is left as it is, and so is the whole network if its
    outputs on these images are not nearer to the imitated network's than with recalibrated batch
    norms alone.

    Args:
        model: Full-size network; it is copied, not changed.
        keep: Channels that will be kept of each width group, ascending [G][width].
        data: Calibration images; targets are used for ignored positions only.
        imitated: The network before the removal.

    Returns:
        The network to cut: a changed copy, or `model` itself.
    """
    calibration = Calibration.draw(model, data, training.seed)
    if calibration is None:
        return Compensated(model=model)
    return _Compensation(model, traced, keep, calibration, training, imitated, progress).run()


class _Compensation:
    """One run of `compensate`."""

    def __init__(
        self,
        model: nn.Module,
        traced: Traced,
        keep: Keep,
        calibration: Calibration,
        training: Training,
        imitated: Imitated,
        progress: Progress,
    ) -> None:
        self._model = model
        self._traced = traced
        self._keep = keep
        self._calibration = calibration
        self._training = training
        self._imitated = imitated
        self._progress = progress

    def run(self) -> Compensated:
        """Fit the layers, and take what is nearest to the imitated network."""
        wanted = self._outputs(self._imitated.model, self._imitated.keep)
        fitted, layers = self._fitted()
        plain, rescaled = copied(self._model), copied(fitted)
        self._recalibrate(plain)
        self._recalibrate(rescaled)
        before, after, again = (
            self._distance(model, wanted) for model in (plain, fitted, rescaled)
        )
        nearest = min(after, again)
        if not layers or nearest >= before:
            return Compensated(model=self._model, distances=(before, nearest))
        return Compensated(
            model=fitted,
            keeps_scales=after <= again,
            layers=layers,
            distances=(before, nearest),
        )

    def _fitted(self) -> tuple[nn.Module, list[str]]:
        """A copy with fitted layers, and their names; the same in every process."""
        model = copied(self._model).eval()
        fitting = LayerFitting(
            model,
            self._layers(model),
            affine_norms(model),
            self._reference(),
            held_out=self._calibration.held_out_share,
            on_layer=self._report,
        )
        with self._closed(model, self._keep):
            fitting.run(self._calibration.inputs)
        for tensor in itertools.chain(model.parameters(), model.buffers()):
            if tensor.is_floating_point():
                distributed.average(tensor.detach())
        return model, fitting.changed

    def _reference(self) -> Reference:
        model = self._imitated.model
        return Reference(
            model,
            partial(self._closed, model, self._imitated.keep),
            self._layers(model),
            affine_norms(model),
            self._calibration.inputs,
            self._training.seed,
        )

    def _closed(self, model: nn.Module, keep: Keep | None) -> AbstractContextManager[object]:
        if keep is None:
            return contextlib.nullcontext()
        return proof.gated(model, self._traced.gates, keep)

    def _layers(self, model: nn.Module) -> dict[str, PatchLayer]:
        return kept_layers(model, self._traced, self._keep, self._imitated.keep)

    def _recalibrate(self, model: nn.Module) -> None:
        with self._closed(model, self._keep):
            estimate_statistics(model, self._calibration.fit)

    def _outputs(self, model: nn.Module, keep: Keep | None) -> list[Any]:
        """Outputs for each held-out batch."""
        with self._closed(model, keep), evaluating(model), torch.no_grad():
            return [model(*batch.inputs) for batch in self._calibration.held_out]

    def _distance(self, model: nn.Module, wanted: list[Any]) -> float:
        """Mean distance from the wanted outputs over the held-out images, the same in every
        process; infinite if they cannot be compared.
        """
        total = torch.zeros((), dtype=torch.float64)
        batches = self._calibration.held_out
        found = self._outputs(model, self._keep)
        for batch, outputs, target in zip(batches, found, wanted, strict=True):
            distance = output_distance(self._training, outputs, target, batch.target)
            total += len(batch) * (math.inf if distance is None else float(distance))
        distributed.average(total)
        return float(total) / sum(map(len, batches))

    def _report(self, done: int, total: int) -> None:
        self._progress(ProgressEvent(phase=COMPENSATE, done=done, total=total, unit="layers"))
