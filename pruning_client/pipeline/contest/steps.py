"""The two steps of a contest that train: choosing the channels, and fine-tuning what is left.

A step reads and writes its own folders only, so that it runs in this process or on a cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from pruning_client.errors import PruningError, UsageError
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.latency.predictor import Predictor, Widths
from pruning_client.methods.base import Checking, Method, Widening
from pruning_client.pipeline import artifacts
from pruning_client.pipeline.contest import kept
from pruning_client.pipeline.contest.entrants import Entrant
from pruning_client.pipeline.contest.kept import (
    FileRecord,
    KeptSeconds,
    Made,
    Selected,
    SelectionRecord,
    SharedJournal,
)
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.prune import select
from pruning_client.pipeline.workshop import Workshop

#: Folder of a step's checkpoints.
_JOURNAL = "training"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of one method at one budget and seed."""

    entrant: Entrant
    seed: int
    #: Folder of the selection: written by a step without widths, read by one with them.
    selection: Path
    #: Folder of the method's work that does not depend on the budget.
    shared_folder: Path
    #: Predicted latency that the selection has to meet, ms.
    aim_ms: float
    #: Widths of the network to make, or None to choose the channels.
    widths: Widths | None = None

    @property
    def folder(self) -> Path:
        """Where the step writes."""
        if self.widths is None:
            return self.selection
        return self.selection / f"file-{artifacts.digest(str(self.widths).encode())}"

    @property
    def is_finished(self) -> bool:
        return kept.is_finished(self.folder)

    @property
    def title(self) -> str:
        return f"{self.entrant.label}, seed {self.seed}"


class Workers(Protocol):
    """Where steps run."""

    def run(self, steps: Sequence[Step]) -> None:
        """Do every step that is not finished; a typed error of a step is written to its folder.

        Nothing of it runs any more when this returns, so that a measurement after it is
        undisturbed.
        """


@dataclass(frozen=True, kw_only=True)
class LocalWorkers:
    """This process, one step after the other."""

    job: PruningJob
    predictor: Predictor

    def run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if not step.is_finished:
                do(step, self.job, self.predictor)


def do(step: Step, shared: PruningJob, predictor: Predictor) -> None:
    """Do one step, with what all steps of the contest share."""
    step.folder.mkdir(parents=True, exist_ok=True)
    seconds = KeptSeconds(step.folder)
    journal = Journal(step.folder / _JOURNAL, resume=True)
    job = _job(step, shared, journal, seconds)
    try:
        if step.widths is None:
            _select(step, job, predictor, seconds)
        else:
            _make(step, job, step.widths, seconds)
    except PruningError as error:
        kept.save_failure(step.folder, error.message)
    journal.close()


def _job(step: Step, shared: PruningJob, journal: Journal, seconds: KeptSeconds) -> PruningJob:
    progress = seconds.seen_by(named(shared.progress, step.title))
    return replace(
        shared.again(step.folder, journal),
        settings=step.entrant.settings(shared.settings, step.seed),
        progress=progress,
    )


def named(progress: Progress, title: str) -> Progress:
    """A callback whose phases carry a title."""

    def report(event: ProgressEvent) -> None:
        progress(replace(event, phase=f"{title}: {event.phase}"))

    return report


def _select(step: Step, job: PruningJob, predictor: Predictor, seconds: KeptSeconds) -> None:
    known = len(job.warnings)
    _check(job.settings.method, job)
    common = SharedJournal(step.shared_folder, step.folder, seconds)
    whole, selection = select(replace(job, shared_journal=common), predictor, step.aim_ms)
    record = SelectionRecord(
        seconds=common.earlier_seconds + seconds.seconds,
        timings_seconds=job.watch.seconds,
        warnings=job.warnings[known:],
        rest=kept.rest_of(selection),
    )
    selected = Selected(whole=whole, selection=selection, record=record)
    kept.save_selection(step.folder, job.model, selected)


def _check(method: Method, job: PruningJob) -> None:
    """Refuse methods that cannot work with the contest's network."""
    if isinstance(method, Widening):
        raise UsageError(
            f"{method.name!r} prunes a wider network than the given one.",
            "Compare methods on one network: leave it out, and prune with it alone.",
        )
    if isinstance(method, Checking):
        method.check(job.problem)


def _make(step: Step, job: PruningJob, widths: Widths, seconds: KeptSeconds) -> None:
    known = len(job.warnings)
    selected = load(step, job)
    torch.manual_seed(step.seed)
    workshop = Workshop(job, selected.whole, selected.selection)
    workshop.make_file(widths)
    (file,) = workshop.files
    record = FileRecord(
        seconds=seconds.seconds,
        timings_seconds=job.watch.seconds,
        warnings=job.warnings[known:],
        widths=widths,
        accuracy=file.file.accuracy,
        float_accuracy=file.file.float_accuracy,
        float_layers=file.file.float_layers,
        denormals_flushed=file.exported.denormals_flushed,
        history=workshop.history,
    )
    kept.save_made(step.folder, job.traced, Made(file=file, record=record))


def load(step: Step, job: PruningJob) -> Selected:
    """The selection that a finished step has made."""
    return kept.load_selection(step.selection, job.model, len(job.traced.space.groups))
