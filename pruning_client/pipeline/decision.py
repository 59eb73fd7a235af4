"""The closed loop's next action, as a pure function of what has been measured so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pruning_client.errors import BudgetError
from pruning_client.latency.predictor import Widths
from pruning_client.pipeline.measure import FileMeasurements, pooled
from pruning_client.pipeline.width_search import WidthSearch
from pruning_client.reports.schema import Stage


@dataclass(frozen=True)
class MeasureStructure:
    """Measure the gated network cut to these widths, without fine-tuning."""

    widths: Widths


@dataclass(frozen=True)
class MakeFile:
    """Cut to these widths, fine-tune, export, and measure the very file."""

    widths: Widths


@dataclass(frozen=True)
class MeasureAgain:
    """Measure the last file once more."""

    widths: Widths


@dataclass(frozen=True)
class Stop:
    """Deliver the best file."""


Measuring = MeasureStructure | MakeFile | MeasureAgain
Action = Measuring | Stop


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One action and what it measured on every target."""

    action: Measuring
    measurements: FileMeasurements

    @property
    def stage(self) -> Stage:
        return "structure" if isinstance(self.action, MeasureStructure) else "delivered"


@dataclass(frozen=True, kw_only=True)
class LoopState:
    """What the loop has done and learned; `after` returns the next one."""

    search: WidthSearch
    #: Widths that the pruning method selected.
    selected: Widths
    #: Number of measurements left on every target.
    measurements_left: int
    trials: tuple[Trial, ...] = ()

    def after(
        self, action: Measuring, measurements: FileMeasurements, measurements_left: int
    ) -> LoopState:
        """The state after an action."""
        return replace(
            self,
            search=self.search.measured(action.widths, measurements),
            measurements_left=measurements_left,
            trials=(*self.trials, Trial(action=action, measurements=measurements)),
        )

    @property
    def structures(self) -> list[Widths]:
        """Widths of the measured structures."""
        return [trial.action.widths for trial in self.trials if trial.stage == "structure"]

    @property
    def files(self) -> list[Widths]:
        """Widths of the files made, each once."""
        return [t.action.widths for t in self.trials if isinstance(t.action, MakeFile)]

    @property
    def corrections(self) -> int:
        """Number of measured corrections of the widths, before and after fine-tuning."""
        return max(0, len(self.structures) - 1) + max(0, len(self.files) - 1)

    def measurements_of(self, file: Widths) -> FileMeasurements:
        """All measurements of a file as one on every target."""
        every = [
            trial.measurements
            for trial in self.trials
            if trial.stage == "delivered" and trial.action.widths == file
        ]
        first, *repeats = every
        for repeat in repeats:
            first = tuple(map(pooled, first, repeat))
        return first

    @property
    def best_file(self) -> Widths:
        """The slowest file that keeps every budget; the fastest where none does."""
        return max(self.files, key=self._rank)

    def _rank(self, file: Widths) -> tuple[bool, float]:
        latency_ms = self.search.worst_ms(self.measurements_of(file))
        keeps = latency_ms <= self.search.budget_ms
        return keeps, latency_ms if keeps else -latency_ms


def decide(state: LoopState) -> Action:
    """What to do next: settle the widths by structures, then make files and correct them.

    Raises:
        BudgetError: no structure keeps the budget as measured, and no narrower one exists.
    """
    if state.files:
        return _after_file(state)
    if state.structures:
        return _after_structure(state)
    return MeasureStructure(state.selected)


def _after_structure(state: LoopState) -> Action:
    """A file where the widths are settled, another structure otherwise.

    One correction is left for the file: the last one before it is not measured.
    """
    search = state.search
    widths = state.structures[-1]
    latency_ms = search.one_ms(widths)
    if search.is_good(widths, latency_ms, search.structure_limit_ms):
        return MakeFile(widths)
    following = search.next(widths, latency_ms)
    if following in state.structures:
        return MakeFile(search.slowest_within(otherwise=widths))
    if state.corrections >= search.config.rounds - 1:
        return MakeFile(search.slowest_within(otherwise=following))
    return MeasureStructure(following)


def _after_file(state: LoopState) -> Action:
    """Another file where the last one, measured twice, misses the budget or leaves slack."""
    search = state.search
    widths = state.files[-1]
    latency_ms = search.worst_ms(state.measurements_of(widths))
    if search.is_good(widths, latency_ms, search.budget_ms):
        return Stop()
    if isinstance(state.trials[-1].action, MakeFile) and state.measurements_left > 1:
        return MeasureAgain(widths)
    return Stop() if _is_spent(state) else _correct_file(state, widths, latency_ms)


def _is_spent(state: LoopState) -> bool:
    limits = state.search.config
    return (
        state.measurements_left < 1
        or state.corrections >= limits.rounds
        or len(state.files) > limits.late_rounds
    )


def _correct_file(state: LoopState, widths: Widths, latency_ms: float) -> Action:
    try:
        following = state.search.next(widths, latency_ms)
    except BudgetError:
        return Stop()  # the report says that the best file misses the budget
    return Stop() if following in state.files else MakeFile(following)
