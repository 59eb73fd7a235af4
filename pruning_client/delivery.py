"""From a selection of channels to a fine-tuned file whose latency was measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from pruning_client import artefacts
from pruning_client.errors import BudgetError
from pruning_client.finetune import finetune, recalibrate_batch_norm
from pruning_client.groups import Exported
from pruning_client.job import Job
from pruning_client.methods.base import Ints, Selection, best_channels
from pruning_client.surgery import slim
from pruning_client.verify import Correction, Measured, Widths

#: Share of the first fine-tuning's epochs that a corrected network gets again.
_SHORTER = 0.5


@dataclass(kw_only=True)
class Delivery:
    """From a selection of channels to a fine-tuned file that was measured."""

    job: Job
    correction: Correction
    gated: nn.Module
    history: list[dict[str, Any]]
    module: nn.Module = field(init=False)
    keep: list[Ints] = field(init=False)
    measured: Measured = field(init=False)
    exported: Exported = field(init=False)

    def make(self, selection: Selection) -> None:
        """Settle the widths by measuring the structure, then fine-tune once, export and measure the very file."""
        widths = self.correction.settle(selection.widths, self._measure_structure)
        self.keep = best_channels(selection.scores, list(widths))
        self.module = slim(self.gated, self.job.traced, self.keep)
        self._finish(self.job.config.finetune.epochs, widths, "fine-tune")

    def close(self) -> None:
        """While the file is over the budget: correct the widths, fine-tune for a shorter time and measure again."""
        budget_ms, epochs = self.correction.budget_ms, self.job.config.finetune.epochs
        for _ in range(self.job.config.verify.final_rounds):
            if self.measured.latency_ms <= budget_ms:
                return
            try:
                widths = self.correction.next(tuple(len(index) for index in self.keep))
            except BudgetError:
                return  # what was delivered is the best there is; the report says that it misses
            whole = artefacts.restore(self.gated, self.job.traced, self.keep, self.module)
            self.keep = best_channels(self.correction.scores, list(widths))
            self.module = slim(whole, self.job.traced, self.keep)
            self._finish(max(1, round(_SHORTER * epochs)) if epochs else 0, widths, "fine-tune again")

    def _measure_structure(self, widths: Widths) -> Measured:
        keep = best_channels(self.correction.scores, list(widths))
        return self.job.measure_structure(self.gated, keep, "measure the pruned structure")

    def _finish(self, epochs: int, widths: Widths, phase: str) -> None:
        job, config = self.job, replace(self.job.config.finetune, epochs=epochs)
        with job.watch(phase):
            recalibrate_batch_norm(self.module, job.train, batches=config.recalibration_batches, seed=job.config.seed)
            self.history += finetune(
                self.module, job.train, config, teacher=job.model, seed=job.config.seed, progress=job.progress,
                phase=phase, evaluate=job.evaluate,
            )  # fmt: skip
        self.measured, self.exported = job.measure_file(self.module, widths, "verify the delivered file")
        self.correction.note("delivered", widths, self.measured)
