"""What the phases of one pruning job share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from onnx import ModelProto
from torch import Tensor, nn

from latency_service.core.arrays import Ints
from latency_service.core.client import Client
from latency_service.spaces.slicing import materialise
from pruning_client.data.batches import Batches
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.graph.proof import weights_of
from pruning_client.graph.space import Exported, Traced, export_onnx, flush_denormals
from pruning_client.latency.predictor import Widths
from pruning_client.latency.readings import FileMeasurement, FileMeasurements
from pruning_client.pipeline import artifacts
from pruning_client.pipeline.measure import Verifier
from pruning_client.pipeline.settings import JobSettings
from pruning_client.service.target import DeviceTarget
from pruning_client.training.trainer import accuracy


@dataclass(kw_only=True)
class PruningJob:
    """What the phases of one job share."""

    model: nn.Module
    train: Batches
    held_out: Batches
    example: Tensor
    client: Client
    settings: JobSettings
    progress: Progress
    folder: Path
    name: str
    #: Targets, every one of which has to meet the budget.
    targets: list[DeviceTarget]
    traced: Traced
    journal: Journal = field(default_factory=Journal)
    watch: artifacts.Stopwatch = field(default_factory=artifacts.Stopwatch)
    sleep: Callable[[float], None] = time.sleep

    @property
    def space_id(self) -> str:
        return self.traced.space.id

    @property
    def full(self) -> Widths:
        return tuple(self.traced.space.full_widths)

    def again(self, folder: Path, journal: Journal) -> PruningJob:
        """The same job for another budget."""
        return replace(self, folder=folder, journal=journal, watch=artifacts.Stopwatch())

    def measure(self, data: bytes, widths: Sequence[int], phase: str) -> FileMeasurements:
        """Measure a file on every target, one after the other."""
        with self.watch(phase):
            return tuple(self._measure(target, data, widths, phase) for target in self.targets)

    def measure_dense(self) -> FileMeasurements:
        """Measure the dense network on every target."""
        everything = [np.arange(width) for width in self.full]
        return self.measure_structure(self.model, everything, "measure the dense network")

    def wait(self, seconds: float, phase: str) -> None:
        """Wait, with progress in seconds."""
        total = max(1, round(seconds))
        for done in range(total):
            self.progress(ProgressEvent(phase=phase, done=done, total=total, unit="seconds"))
            self.sleep(seconds / total)
        self.progress(ProgressEvent(phase=phase, done=total, total=total, unit="seconds"))

    def structure(self, model: nn.Module, keep: Sequence[Ints]) -> ModelProto:
        """The graph of a full-size model cut to the channels `keep` [G][width], with its weights.

        The search space is sliced, so that nothing needs exporting.
        """
        weights = weights_of(model, self.traced.weights)
        graph = materialise(self.traced.space, _widths(keep), keep=keep, weights=weights)
        flush_denormals(graph)
        return graph

    def measure_structure(
        self, model: nn.Module, keep: Sequence[Ints], phase: str
    ) -> FileMeasurements:
        """Measure a full-size model cut to the channels `keep` [G][width]."""
        data = self.structure(model, keep).SerializeToString(deterministic=True)
        return self.measure(data, _widths(keep), phase)

    def export(self, module: nn.Module) -> Exported:
        """Write the ONNX file of a network to the job's folder."""
        with self.watch("export"):
            return export_onnx(module, self.example, self.folder / artifacts.ONNX)

    def evaluate(self, module: nn.Module) -> float:
        """Quality of a network in per cent: the recipe's measure, or held-out accuracy."""
        evaluate = self.settings.training.recipe.evaluate
        return accuracy(module, self.held_out) if evaluate is None else evaluate(module)

    def _measure(
        self, target: DeviceTarget, data: bytes, widths: Sequence[int], phase: str
    ) -> FileMeasurement:
        self.progress(ProgressEvent(phase=phase, done=0, total=1, unit="measurements"))
        measured = self.journal.value(
            f"measure {artifacts.digest(data)}",
            FileMeasurement,
            lambda: self._verifier(target).measure(data, widths),
        )
        self.progress(ProgressEvent(phase=phase, done=1, total=1, unit="measurements"))
        return measured

    def _verifier(self, target: DeviceTarget) -> Verifier:
        return Verifier(
            client=self.client,
            device=target.device.name,
            runtime=target.runtime,
            space_id=self.space_id,
            config=self.settings.verify,
        )


def _widths(keep: Sequence[Ints]) -> list[int]:
    return [len(channels) for channels in keep]
