"""Making and measuring the structures and files that the closed loop decides on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from latency_service.core.arrays import Ints
from pruning_client.graph.restore import restore
from pruning_client.graph.space import Exported
from pruning_client.graph.surgery import slim
from pruning_client.latency.predictor import Widths
from pruning_client.latency.readings import FileKey, FileMeasurements
from pruning_client.methods.base import Selection, best_channels
from pruning_client.pipeline import cautions
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.quantisation import NetworkFile
from pruning_client.training.batch_norm import recalibrate_batch_norm
from pruning_client.training.compensation.affine import outputs_kept
from pruning_client.training.compensation.compensate import (
    COMPENSATE,
    Compensated,
    Imitated,
    compensate,
)
from pruning_client.training.soundness import check_finite
from pruning_client.training.trainer import finetune

FINE_TUNE = "fine-tune"
AGAIN = "fine-tune again"
AWARE = "quantisation-aware training"
#: Epochs of a corrected network's fine-tuning, as a share of the first one's.
_SHORTER = 0.5
#: Learning rate of quantisation-aware training, as a share of fine-tuning's.
_AWARE_RATE = 0.1


@dataclass(frozen=True, kw_only=True)
class DeliveredFile:
    """A fine-tuned network and its exported file."""

    module: nn.Module
    #: Channels kept of each group [G][width].
    keep: list[Ints]
    widths: Widths
    exported: Exported
    file: NetworkFile

    @property
    def data(self) -> bytes:
        """The file that is measured and delivered."""
        return self.file.data


@dataclass
class Workshop:
    """Makes and measures files of one job, and keeps those made."""

    job: PruningJob
    gated: nn.Module
    selection: Selection
    files: list[DeliveredFile] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def measure_structure(self, widths: Widths) -> FileMeasurements:
        phase = "measure the pruned structure"
        return self.job.measure_structure(self.gated, self._channels(widths), phase)

    def measure_file(self) -> FileMeasurements:
        """Measure the last file made."""
        last = self.files[-1]
        return self.job.measure(last.data, last.widths, "verify the delivered file")

    def measure_again(self, key: FileKey) -> FileMeasurements:
        """Measure the last file, or the dense network, once more."""
        return self.job.measure_dense() if key.stage == "dense" else self.measure_file()

    def wait(self, seconds: float, left: float) -> None:
        """Wait for a quieter machine, and say so.

        Args:
            left: time that is left for the verification, seconds.
        """
        if seconds and not self.job.journal.resumes:
            self.job.wait(seconds, f"waiting for a quieter machine, {_duration(left)} left")

    def make_file(self, widths: Widths) -> None:
        """Compensate, cut, fine-tune, export and quantise.

        From the second file on it starts with the weights of the last one.
        """
        keep = self._channels(widths)
        compensated = self._compensated(keep)
        with cautions.gathered():  # they were given when the job began
            module = slim(compensated.model, self.job.traced, keep)
        self._recalibrate(module, keeps_scales=compensated.keeps_scales)
        self._finetune(module)
        self._train_for_int8(module)
        check_finite(module, FINE_TUNE)
        exported = self.job.export(module)
        file = self.job.file(exported.path.read_bytes(), module)
        self.files.append(
            DeliveredFile(module=module, keep=keep, widths=widths, exported=exported, file=file)
        )

    def measure_float(self, best: DeliveredFile) -> FileMeasurements:
        """Measure the fp32 file beside an int8 one."""
        phase = "measure the fp32 file"
        return self.job.measure(best.file.float_data, best.widths, phase, "fp32")

    def _channels(self, widths: Widths) -> list[Ints]:
        return best_channels(self.selection.scores, widths)

    def _whole(self) -> nn.Module:
        """The full-size network to cut."""
        if not self.files:
            return self.gated
        last = self.files[-1]
        return restore(self.gated, self.job.traced, last.keep, last.module)

    def _compensated(self, keep: list[Ints]) -> Compensated:
        """The full-size network to cut, fitted to the removal of all channels but `keep`.

        The first file imitates the dense network, unless its weights are new ones; each later one
        the last file's network: that was fine-tuned, and computes more with its channels than the
        dense network does.
        """
        job = self.job
        whole = self._whole()
        is_unlike_dense = self.selection.from_scratch and not self.files
        if not job.settings.training.compensation or is_unlike_dense:
            return Compensated(model=whole)
        last = self.files[-1].keep if self.files else None
        imitated = Imitated(model=whole if self.files else job.model, keep=last)
        with job.watch(COMPENSATE):
            return compensate(
                whole,
                job.traced,
                keep,
                job.train,
                job.settings.training,
                imitated=imitated,
                progress=job.progress,
            )

    def _recalibrate(self, module: nn.Module, *, keeps_scales: bool) -> None:
        job = self.job
        training = job.settings.training
        with (
            job.watch(self._phase),
            outputs_kept(module) if keeps_scales else contextlib.nullcontext(),
        ):
            recalibrate_batch_norm(
                module, job.train, batches=training.recalibration_batches, seed=training.seed
            )

    def _finetune(self, module: nn.Module) -> None:
        self._train(module, self._epochs, self._phase, FINE_TUNE)

    def _train_for_int8(self, module: nn.Module) -> None:
        quantiser = self.job.quantiser
        if quantiser is None or not quantiser.aware_epochs:
            return
        with quantiser.rounding(module):
            epochs = quantiser.aware_epochs
            self._train(module, epochs, AWARE, "fine-tune-int8", lr_share=_AWARE_RATE)

    def _train(
        self,
        module: nn.Module,
        epochs: int,
        phase: str,
        checkpoint: str,
        lr_share: float = 1.0,
    ) -> None:
        job = self.job
        training = job.settings.training
        with job.watch(phase):
            self.history += finetune(
                module,
                job.train,
                replace(training, epochs=epochs, lr=self._rate),
                teacher=job.dense_model,
                progress=job.progress,
                phase=phase,
                evaluate=job.evaluate,
                journal=job.journal,
                checkpoint=f"{checkpoint}-{len(self.files)}",
                lr_share=lr_share,
            )

    @property
    def _rate(self) -> float | None:
        """Learning rate of the next training, None for the automatic one.

        That of the first fine-tuning is kept: the gradient of a trained network is mostly noise,
        along which far too long a step would be found.
        """
        first = (entry.get("lr") for entry in self.history if entry["phase"] == FINE_TUNE)
        return next(first, self.job.settings.training.lr)

    @property
    def _phase(self) -> str:
        return AGAIN if self.files else FINE_TUNE

    @property
    def _epochs(self) -> int:
        epochs = self.job.settings.training.finetune_epochs
        return max(1, round(_SHORTER * epochs)) if epochs and self.files else epochs


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
