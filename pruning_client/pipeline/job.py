"""What the phases of one pruning job share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from onnx import ModelProto
from torch import Tensor, nn

from latency_service.core.arrays import Ints
from latency_service.core.client import Client
from latency_service.core.runtimes import Precision
from latency_service.spaces.slicing import materialise
from pruning_client.data.batches import Batches
from pruning_client.errors import PruningError, UsageError
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.graph.deploy import deployed
from pruning_client.graph.onnx_module import OnnxModule
from pruning_client.graph.proof import weights_of
from pruning_client.graph.space import Exported, Traced, export_onnx, flush_denormals
from pruning_client.graph.widening import widths_before
from pruning_client.latency.predictor import Widths
from pruning_client.latency.readings import FileMeasurement, FileMeasurements
from pruning_client.methods.base import Problem
from pruning_client.pipeline import artifacts, cautions
from pruning_client.pipeline.measure import Verifier
from pruning_client.pipeline.quantisation import FileQuantiser, NetworkFile
from pruning_client.pipeline.settings import JobSettings
from pruning_client.reports.schema import Verification
from pruning_client.service.target import DeviceTarget
from pruning_client.training.metrics import quality


class JobRecorder(Protocol):
    """What follows a job in the service."""

    def note_verifications(self, verifications: Sequence[Verification]) -> None:
        """Take all measurements of files so far."""

    def finish(self, report: dict[str, Any]) -> str:
        """Record the report after everything that was noted before; the id of the run there."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """The network that the user gave, where a wider one is pruned in its place."""

    #: dense network in eval mode
    model: nn.Module
    traced: Traced


@dataclass(kw_only=True)
class PruningJob:
    """What the phases of one job share."""

    #: the network that is pruned: the dense one, or a wider one
    model: nn.Module
    train: Batches
    held_out: Batches
    #: first inputs of the data, each [2, ...]
    example: tuple[Tensor, ...]
    client: Client
    settings: JobSettings
    progress: Progress
    folder: Path
    name: str
    #: Targets, every one of which has to meet the budget.
    targets: list[DeviceTarget]
    traced: Traced
    #: None where the network that is pruned is the one that the user gave.
    given: Given | None = None
    #: Whether networks are trained in another memory format than they were given in.
    in_channels_last: bool = False
    #: The wider network on every target; None where there is none.
    wide: FileMeasurements | None = None
    #: Makes int8 files; None where the targets run fp32 files.
    quantiser: FileQuantiser | None = None
    dense_file: NetworkFile | None = None
    journal: Journal = field(default_factory=Journal)
    #: Journal of what a method does once for all budgets; None where there is one budget.
    shared_journal: Journal | None = None
    #: Follows the job in the service; None in processes and comparisons that are not followed.
    recorder: JobRecorder | None = None
    watch: artifacts.Stopwatch = field(default_factory=artifacts.Stopwatch)
    #: what the user has to know, for the report
    warnings: list[str] = field(default_factory=list)
    sleep: Callable[[float], None] = time.sleep

    @property
    def problem(self) -> Problem:
        """What a method works on."""
        return Problem(
            model=self.model,
            traced=self.traced,
            train=self.train,
            training=self.settings.training,
        )

    @property
    def space_id(self) -> str:
        return self.traced.measured.space.id

    @property
    def full(self) -> Widths:
        return tuple(self.traced.space.full_widths)

    @property
    def everything(self) -> list[Ints]:
        """All channels of the network that is pruned [G][width]."""
        return [np.arange(width) for width in self.full]

    @property
    def dense_model(self) -> nn.Module:
        """The network that the user gave: shares of its latency are budgets, and smaller networks
        are compared with it and learn from it.
        """
        return self.model if self.given is None else self.given.model

    @property
    def dense_widths(self) -> Widths:
        """Widths of the dense network in the search space."""
        if self.given is None:
            return self.full
        return tuple(widths_before(self.given.traced, self.traced))

    @property
    def dense(self) -> NetworkFile:
        """The dense network as the file that is measured; made on first use."""
        if self.dense_file is None:
            traced = self.traced if self.given is None else self.given.traced
            everything = [np.arange(width) for width in traced.space.full_widths]
            graph = _structure(self.dense_model, traced, everything)
            data = graph.SerializeToString(deterministic=True)
            self.dense_file = self.file(data, self.dense_model)
        return self.dense_file

    @property
    def dense_is_reference(self) -> bool:
        """Whether agents read the dense network itself in the rounds of every measurement: they
        read the network that is pruned, in int8 altogether where the targets are int8.
        """
        return self.given is None and not self.dense.float_layers

    def again(
        self, folder: Path, journal: Journal, *, shared_journal: Journal | None = None
    ) -> PruningJob:
        """The same job for another budget."""
        quantiser = self.quantiser and self.quantiser.again(self.dense, journal)
        return replace(
            self,
            folder=folder,
            journal=journal,
            shared_journal=shared_journal,
            quantiser=quantiser,
            warnings=list(self.warnings),
            watch=artifacts.Stopwatch(),
        )

    def measure(
        self, data: bytes, widths: Sequence[int], phase: str, precision: Precision | None = None
    ) -> FileMeasurements:
        """Measure a file on every target, one after the other.

        Args:
            precision: of the file; by default the targets' own.
        """
        targets = self.targets if precision is None else [t.at(precision) for t in self.targets]
        with self.watch(phase):
            return tuple(self._measure(target, data, widths, phase) for target in targets)

    def measure_dense(self) -> FileMeasurements:
        """Measure the dense network on every target."""
        return self.measure(self.dense.data, self.dense_widths, "measure the dense network")

    def measure_wide(self) -> FileMeasurements:
        """Measure the wider network on every target."""
        return self.measure_structure(self.model, self.everything, "measure the wider network")

    def warn(self, text: str | None) -> None:
        """Say something that has to be known, and keep it for the report."""
        if text is not None:
            self.warnings.append(cautions.warn(text))

    def wait(self, seconds: float, phase: str) -> None:
        """Wait, with progress in seconds."""
        total = max(1, round(seconds))
        for done in range(total):
            self.progress(ProgressEvent(phase=phase, done=done, total=total, unit="seconds"))
            self.sleep(seconds / total)
        self.progress(ProgressEvent(phase=phase, done=total, total=total, unit="seconds"))

    def structure(self, model: nn.Module, keep: Sequence[Ints]) -> ModelProto:
        """The graph of a full-size model cut to the channels `keep` [G][width], with its weights,
        in the form that is deployed.

        The search space is sliced, so that nothing needs exporting.
        """
        return _structure(model, self.traced, keep)

    def measure_structure(
        self, model: nn.Module, keep: Sequence[Ints], phase: str
    ) -> FileMeasurements:
        """Measure a full-size model cut to the channels `keep` [G][width], in the precision of the
        targets.
        """
        graph = self.structure(model, keep)
        if self.quantiser is None:
            data = graph.SerializeToString(deterministic=True)
        else:
            with self.watch("quantise"):
                data = self.quantiser.structure(graph)
        return self.measure(data, _widths(keep), phase)

    def file(self, data: bytes, module: nn.Module) -> NetworkFile:
        """The file that is measured and delivered, from the fp32 file of a network, and its
        accuracy.

        Raises:
            Refused: no int8 file keeps the accuracy.
            UsageError, ModelError: see `FileQuantiser.file`, `evaluate_file`.
        """
        if self.quantiser is not None:
            with self.watch("quantise"):
                return self.quantiser.file(data, lambda made: self.evaluate_file(made, module))
        percent = self.evaluate_file(data, module)
        return NetworkFile(data=data, accuracy=percent, float_data=data, float_accuracy=percent)

    def deployed(self, module: nn.Module) -> nn.Module:
        """The form of a network, dense or smaller, that is measured and exported: itself without a
        deploy hook.

        Raises:
            DeployError: The hook fails, or its network has other outputs.
        """
        return _deployed(module, self.traced)

    def export(self, module: nn.Module) -> Exported:
        """Write the ONNX file of a network, in the form that is deployed, to the job's folder."""
        with self.watch("export"):
            return export_onnx(self.deployed(module), self.example, self.folder / artifacts.ONNX)

    def evaluate(self, module: nn.Module) -> float:
        """Quality of a network in per cent by the recipe's measure: by default top-1 accuracy."""
        return quality(module, self.held_out, self.settings.training.recipe)

    def evaluate_file(self, data: bytes, module: nn.Module) -> float:
        """Quality in per cent of a file in ONNX Runtime.

        Args:
            module: network that was exported to the file.

        Raises:
            UsageError: the recipe's measure needs more of a network than its forward pass.
        """
        file = OnnxModule(data, module, self.example)
        if self.settings.training.recipe.evaluate is None:
            return self.evaluate(file)
        try:
            return self.evaluate(file)
        except PruningError:
            raise
        except Exception as error:
            raise UsageError(
                "The recipe's `evaluate` fails on an exported file: "
                f"{type(error).__name__}: {error}.",
                "What is delivered is the file, so `evaluate` is given a module that runs it in "
                "ONNX Runtime: call that module itself and none of its parts.",
            ) from error

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


def _structure(model: nn.Module, traced: Traced, keep: Sequence[Ints]) -> ModelProto:
    form = traced.measured
    weights = weights_of(_deployed(model, traced), form.weights)
    graph = materialise(form.space, _widths(keep), keep=keep, weights=weights)
    flush_denormals(graph)
    return graph


def _deployed(model: nn.Module, traced: Traced) -> nn.Module:
    form = traced.deployed
    return model if form is None else deployed(model, form.hook, traced.example, traced)


def _widths(keep: Sequence[Ints]) -> list[int]:
    return [len(channels) for channels in keep]
