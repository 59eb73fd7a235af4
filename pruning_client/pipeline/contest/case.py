"""One budget and seed of a contest: all methods at one measured latency."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter

from latency_service.core.files import write_whole
from pruning_client.errors import BudgetError, SlowerThanDense
from pruning_client.execution.journal import Journal
from pruning_client.latency.budget import parse_budget
from pruning_client.latency.predictor import Widths
from pruning_client.pipeline import report
from pruning_client.pipeline.artifacts import ONNX
from pruning_client.pipeline.contest import kept
from pruning_client.pipeline.contest.entrants import Entrant
from pruning_client.pipeline.contest.equality import EqualLatency
from pruning_client.pipeline.contest.files import MeasuredFile, measure_in_turn
from pruning_client.pipeline.contest.kept import Made, Selected
from pruning_client.pipeline.contest.level import CLOSE, Level, unequal
from pruning_client.pipeline.contest.side_by_side import SideBySide
from pruning_client.pipeline.contest.steps import Step, Workers, load
from pruning_client.pipeline.decision import margin_of
from pruning_client.pipeline.deliver import Delivery, check_faster, verifications_of
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.prepare import Prepared, check_something_to_do
from pruning_client.pipeline.prune import check_reachable, goals_of
from pruning_client.pipeline.report import Finished
from pruning_client.pipeline.sweep import folder_of
from pruning_client.reports.contest_schema import ContestEntry, ContestResult
from pruning_client.reports.schema import Report, Spent

#: What all methods have delivered, in the folder of a case.
ENTRIES = "entries.json"
_ADAPTER = TypeAdapter(list[ContestEntry])


@dataclass(kw_only=True)
class Case:
    """All methods at one budget and seed; every finished step is kept until all have ended.

    First every method chooses its channels. Then all are brought to one latency, measured side by
    side, fine-tuned, and their files measured in turn. The methods whose files turn out not to be
    as fast as the others' are brought to the common latency again.
    """

    prepared: Prepared
    entrants: Sequence[Entrant]
    config: EqualLatency
    workers: Workers
    budget: str
    seed: int
    #: Folder of the contest.
    out: Path
    #: Folder of the finished steps.
    kept: Path
    #: Folder of what the methods do once for all budgets.
    shared_folder: Path
    #: Command that the reports show.
    command: str
    #: Reasons of the methods that have failed, by label.
    failures: dict[str, str] = field(default_factory=dict)

    def run(self) -> list[ContestEntry]:
        """What every method delivers; read from the disk where the case is finished."""
        path = self.kept / ENTRIES
        if path.exists():
            return read_entries(path)
        try:
            results = self._results()
        except BudgetError as error:
            self.failures = {entrant.label: error.message for entrant in self.entrants}
            results = {}
        entries = [self._entry(entrant, results.get(entrant.label)) for entrant in self.entrants]
        self.kept.mkdir(parents=True, exist_ok=True)
        write_whole(path, _ADAPTER.dump_json(entries))
        self._discard_steps()
        return entries

    def _results(self) -> dict[str, ContestResult]:
        """Results of the methods that have not failed.

        Raises:
            BudgetError: The dense network keeps the budget, or no architecture does.
        """
        self._check_budget()
        self.workers.run([self._step(entrant) for entrant in self.entrants])
        self._note_failures(self.entrants)
        files: dict[str, MeasuredFile] = {}
        different = self._present
        for _ in range(1 + self.config.corrections):
            if not different:
                break
            files = self._brought_to_level(different, files)
            different = self._different(files)
        apart = {entrant.label for entrant in different}
        return {
            label: result
            for label, file in files.items()
            if (result := self._delivered(label, file, is_equal=label not in apart)) is not None
        }

    def _check_budget(self) -> None:
        evidence = self._goal.evidence
        check_something_to_do(self.budget, (evidence.dense,), self._job)
        check_reachable([self._goal])

    def _brought_to_level(
        self, entrants: Sequence[Entrant], files: dict[str, MeasuredFile]
    ) -> dict[str, MeasuredFile]:
        """Files of all methods after some of them got new widths.

        A method that has no file yet and cannot reach the common latency has failed.
        """
        reached = self._levelled(entrants)
        widths = {label: found for label, found in reached.items() if isinstance(found, tuple)}
        for label, found in reached.items():
            if isinstance(found, BudgetError) and label not in files:
                self.failures[label] = found.message
        steps = {label: self._step(self._entrant(label), found) for label, found in widths.items()}
        self.workers.run(list(steps.values()))
        self._note_failures(entrants, steps)
        for label, step in steps.items():
            known = files.get(label)
            if label not in self.failures and (known is None or known.widths != step.widths):
                files[label] = self._file(step)
        present = {label: file for label, file in files.items() if label not in self.failures}
        return measure_in_turn(self._job, present, self.config) if present else {}

    def _levelled(self, entrants: Sequence[Entrant]) -> dict[str, Widths | BudgetError]:
        """Widths of the common latency by label, or why a method cannot reach it."""
        selections = [self._selected(entrant).selection for entrant in entrants]
        found = self._level.reach(selections, self._side_by_side)
        return {entrant.label: one for entrant, one in zip(entrants, found, strict=True)}

    def _side_by_side(self, widths: Sequence[Widths]) -> list[float]:
        job = self._job
        measuring = SideBySide(
            client=job.client,
            target=job.targets[0],
            space_id=job.space_id,
            full=job.full,
            passes=self.config.passes,
            timeout_seconds=job.settings.campaign.timeout_seconds,
        )
        with job.watch("measure side by side"):
            return job.journal.value("side by side", list[float], lambda: measuring.measure(widths))

    def _different(self, files: dict[str, MeasuredFile]) -> list[Entrant]:
        """Methods whose files are not as fast as the others'."""
        if not files:
            return []
        dense_ms = next(iter(files.values())).goal.evidence.dense.latency_ms
        latencies_ms = [file.measurement.latency_ms for file in files.values()]
        labels = list(files)
        return [
            self._entrant(labels[place])
            for place in unequal(self._level.share, dense_ms, latencies_ms)
        ]

    def _delivered(
        self, label: str, measured: MeasuredFile, *, is_equal: bool
    ) -> ContestResult | None:
        """Write a method's report and files; None where the file is refused."""
        entrant = self._entrant(label)
        step = self._step(entrant, measured.widths)
        selected = self._selected(entrant)
        made = kept.load_made(step.folder, self._job.traced, selected)
        try:
            check_faster(
                made.file, measured.goal, measured.measurement, measured.goal.evidence.dense
            )
        except SlowerThanDense as error:
            self.failures[label] = error.message
            return None
        job = self._report_job(step, selected, made)
        finished = Finished(
            goals=[measured.goal],
            budget=self.budget,
            delivered=self._delivery(selected, made, measured),
            command=self.command,
        )
        written = report.write(job, finished).report
        return self._result(written, selected, made, self._folder(entrant), is_equal)

    def _report_job(self, step: Step, selected: Selected, made: Made) -> PruningJob:
        """The job that writes a method's report."""
        folder = self.out / self._folder(step.entrant)
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(step.selection / "report", resume=True)
        job = replace(
            self._job.again(folder, journal),
            settings=step.entrant.settings(self._job.settings, self.seed),
        )
        for record in (selected.record, made.record):
            job.warnings += record.warnings
            job.watch.seconds.update(record.timings_seconds)
        return job

    def _delivery(self, selected: Selected, made: Made, measured: MeasuredFile) -> Delivery:
        evidence = measured.goal.evidence
        file = made.file
        plain = None
        if file.file.is_quantised:
            phase = "measure the fp32 file"
            plain = self._job.measure(file.file.float_data, file.widths, phase, "fp32")
        return Delivery(
            best=file,
            outcome=measured.outcome(self._job.settings.verify.confidence),
            probability=measured.probability,
            evidence=[evidence],
            verifications=verifications_of([measured.goal]),
            spent=Spent(
                readings=len(evidence.readings),
                seconds=sum(reading.seconds for _, reading in evidence.readings),
                waited_seconds=0.0,
            ),
            float_measurements=plain,
            history=selected.selection.history + made.record.history,
            selection=selected.selection,
        )

    @staticmethod
    def _result(
        written: Report, selected: Selected, made: Made, folder: str, is_equal: bool
    ) -> ContestResult:
        pruned = written.pruned
        return ContestResult(
            latency_ms=pruned.latency_ms,
            lower_ms=pruned.lower_ms,
            upper_ms=pruned.upper_ms,
            dense_ms=written.dense.latency_ms,
            outcome=written.outcome,
            over_percent=written.over_percent,
            accuracy=pruned.accuracy,
            dense_accuracy=written.dense.accuracy,
            is_equal=is_equal,
            widths=[group.after for group in written.widths],
            parameters=pruned.parameters,
            macs=pruned.macs,
            file_bytes=pruned.file_bytes,
            selecting_seconds=selected.record.seconds,
            training_seconds=made.record.seconds,
            folder=folder,
            run_id=written.run_id,
        )

    def _entry(self, entrant: Entrant, result: ContestResult | None) -> ContestEntry:
        return ContestEntry(
            method=entrant.label,
            budget=self.budget,
            seed=self.seed,
            own_epochs=entrant.own_epochs,
            finetune_epochs=entrant.finetune_epochs,
            result=result,
            failure=self.failures.get(entrant.label),
        )

    def _note_failures(
        self, entrants: Sequence[Entrant], steps: dict[str, Step] | None = None
    ) -> None:
        """Take the reasons of failed steps from the disk; of the selections by default."""
        for entrant in entrants:
            step = self._step(entrant) if steps is None else steps.get(entrant.label)
            reason = None if step is None else kept.failure_of(step.folder)
            if reason is not None:
                self.failures[entrant.label] = reason

    def _step(self, entrant: Entrant, widths: Widths | None = None) -> Step:
        return Step(
            entrant=entrant,
            seed=self.seed,
            selection=self.kept / folder_of(entrant.label),
            shared_folder=self.shared_folder / folder_of(entrant.label),
            aim_ms=self._level.budget_ms,
            widths=widths,
        )

    def _file(self, step: Step) -> MeasuredFile:
        record = kept.load_record(step.folder)
        data = (step.folder / ONNX).read_bytes()
        return MeasuredFile(data=data, widths=record.widths, goal=self._goal)

    def _selected(self, entrant: Entrant) -> Selected:
        return load(self._step(entrant), self._job)

    def _entrant(self, label: str) -> Entrant:
        return next(entrant for entrant in self.entrants if entrant.label == label)

    @property
    def _present(self) -> list[Entrant]:
        return [entrant for entrant in self.entrants if entrant.label not in self.failures]

    def _folder(self, entrant: Entrant) -> str:
        return f"{folder_of(self.budget)}/seed-{self.seed}/{folder_of(entrant.label)}"

    @cached_property
    def _job(self) -> PruningJob:
        """The job whose journal holds the measurements of this case."""
        return self.prepared.job.again(self.kept, Journal(self.kept / "measured", resume=True))

    @cached_property
    def _goal(self) -> Goal:
        (goal,) = goals_of(self.prepared, parse_budget(self.budget))
        return goal

    @cached_property
    def _level(self) -> Level:
        goal = self._goal
        margin = self.config.margin
        if margin is None:
            margin = margin_of([goal]) + CLOSE
        share = goal.budget_ms * (1 - margin) / goal.evidence.dense.latency_ms
        return Level(predictor=goal.predictor, share=share)

    def _discard_steps(self) -> None:
        for path in self.kept.iterdir():
            if path.is_dir():
                shutil.rmtree(path)


def read_entries(path: Path) -> list[ContestEntry]:
    """What all methods have delivered, from the file of a finished case."""
    return _ADAPTER.validate_json(path.read_bytes())
