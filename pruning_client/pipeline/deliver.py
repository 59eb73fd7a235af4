"""From a selection of channels to a fine-tuned file whose latency was measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from latency_service.core.arrays import Ints
from pruning_client.errors import BudgetError, SlowerThanDense
from pruning_client.graph.restore import restore
from pruning_client.graph.space import Exported
from pruning_client.graph.surgery import slim
from pruning_client.latency.predictor import Widths
from pruning_client.methods.base import Selection, best_channels
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.measure import FileMeasurements, pooled
from pruning_client.pipeline.width_search import Correction
from pruning_client.training.batch_norm import recalibrate_batch_norm
from pruning_client.training.trainer import finetune

#: Share of the first fine-tuning's epochs that a corrected network gets again.
_SHORTER = 0.5


@dataclass(frozen=True, kw_only=True)
class DeliveredFile:
    """One fine-tuned network, and its file as measured on every target."""

    module: nn.Module
    keep: list[Ints]
    widths: Widths
    exported: Exported
    data: bytes
    readings: FileMeasurements


@dataclass(kw_only=True)
class Delivery:
    """From a selection of channels to a fine-tuned file that was measured."""

    job: PruningJob
    correction: Correction
    gated: nn.Module
    history: list[dict[str, Any]]
    candidates: list[DeliveredFile] = field(default_factory=list)

    def make(self, selection: Selection) -> None:
        """Settle the widths by measuring structures, fine-tune once, export and measure the very
        file.

        While that file misses the budget, or leaves slack, and rounds are left: correct the widths,
        fine-tune for a shorter time and measure again. In the end the folder holds the best file.
        """
        widths = self.correction.settle(selection.widths, self._measure_structure)
        self._finish(self.gated, widths, self.job.settings.training.epochs, "fine-tune")
        while (following := self._following()) is not None:
            self.correction.rounds += 1
            last = self.candidates[-1]
            epochs = self.job.settings.training.epochs
            whole = restore(self.gated, self.job.traced, last.keep, last.module)
            self._finish(
                whole,
                following,
                max(1, round(_SHORTER * epochs)) if epochs else 0,
                "fine-tune again",
            )
        self.best.exported.path.write_bytes(self.best.data)

    @property
    def best(self) -> DeliveredFile:
        """The slowest that keeps every budget; the fastest where none does."""

        def rank(candidate: DeliveredFile) -> tuple[bool, float]:
            ms = self.correction.worst_ms(candidate.readings)
            keeps = ms <= self.correction.budget_ms
            return keeps, ms if keeps else -ms

        return max(self.candidates, key=rank)

    def refuse_slower(self) -> None:
        """Remove the file and raise when it is slower than the dense network.

        Raises:
            SlowerThanDense: on some target it is, as measured.
        """
        best = self.best
        for goal, measured in zip(self.correction.goals, best.readings, strict=True):
            if measured.latency_ms >= goal.dense.latency_ms:
                best.exported.path.unlink()
                raise SlowerThanDense(
                    f"The pruned network takes {measured.latency_ms:.4g} ms on "
                    f"{goal.device.name!r} and the dense one "
                    f"{goal.dense.latency_ms:.4g} ms: it is not delivered. Predicted were "
                    f"{goal.predictor.one_ms(best.widths):.4g} ms, so the predictor does not "
                    "hold there.",
                    "Measure more architectures and train again, or deploy the dense network.",
                )

    def _following(self) -> Widths | None:
        """Other widths that are worth another round; none when the last file is good, or nothing is
        left to try.
        """
        correction = self.correction
        last = self.candidates[-1].widths
        limits = correction.config
        spent = correction.rounds >= limits.rounds or len(self.candidates) > limits.late_rounds
        here_ms = correction.worst_ms(self.candidates[-1].readings)
        if (
            spent
            or self.job.measurements_left < 1
            or correction.is_good(last, here_ms, correction.budget_ms)
        ):
            return None
        try:
            following = correction.next(last, here_ms)
        except BudgetError:
            return None  # what was delivered is the best there is; the report says that it misses
        return (
            None if following in [candidate.widths for candidate in self.candidates] else following
        )

    def _measure_structure(self, widths: Widths) -> FileMeasurements:
        keep = best_channels(self.correction.scores, list(widths))
        return self.job.measure_structure(self.gated, keep, "measure the pruned structure")

    def _finish(self, whole: nn.Module, widths: Widths, epochs: int, phase: str) -> None:
        job = self.job
        config = replace(self.job.settings.training, epochs=epochs)
        keep = best_channels(self.correction.scores, list(widths))
        module = slim(whole, job.traced, keep)
        with job.watch(phase):
            recalibrate_batch_norm(
                module, job.train, batches=config.recalibration_batches, seed=config.seed
            )
            self.history += finetune(
                module,
                job.train,
                config,
                teacher=job.model,
                progress=job.progress,
                phase=phase,
                evaluate=job.evaluate,
                journal=job.journal,
                checkpoint=f"fine-tune-{len(self.candidates)}",
            )
        exported = job.export(module)
        data = exported.path.read_bytes()
        readings = self._measure(data, widths)
        self.candidates.append(
            DeliveredFile(
                module=module,
                keep=keep,
                widths=widths,
                exported=exported,
                data=data,
                readings=readings,
            )
        )

    def _measure(self, data: bytes, widths: Widths) -> FileMeasurements:
        """Time the very file; one that seems to miss or to leave slack is timed twice, before it is
        trained anew.
        """
        phase = "verify the delivered file"
        correction = self.correction
        readings = self.job.measure(data, widths, phase)
        correction.note("delivered", widths, readings)
        is_good = correction.is_good(widths, correction.worst_ms(readings), correction.budget_ms)
        if not is_good and self.job.measurements_left > 1:
            again = self.job.measure(data, widths, phase)
            correction.note("delivered", widths, again)
            readings = tuple(pooled(a, b) for a, b in zip(readings, again, strict=True))
        return readings
