"""The closed loop's next action, as a pure function of what has been measured so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

from latency_service.core.arrays import Floats
from pruning_client.errors import BudgetError
from pruning_client.latency.predictor import Widths
from pruning_client.latency.readings import (
    DEVIATIONS,
    Evidence,
    FileKey,
    FileMeasurement,
    FileMeasurements,
)
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.verify import Verify
from pruning_client.pipeline.width_search import WidthSearch
from pruning_client.reports.schema import Outcome

#: Distance of the aim below the budget, in standard deviations of a file's excess over it: 2 for
#: the proof, 0.5 for the difference between the aim and what comes out.
_MARGIN_DEVIATIONS = 2.5
#: Number of readings of a file after which it should be decided.
_READINGS = 9
#: Number of readings of a file, each in a process of its own, before it counts as decided: fresh
#: processes differ (memory layout), a ResNet-56 by up to 3 %. One suffices far from the budget.
_LEAST_READINGS = 3
#: The same before a file is delivered as one that keeps the budget.
_PROOF_READINGS = 6
_FAR = 0.03
#: Standard deviation of the dense latency, relative, at which a budget that is a share of it is
#: certain enough to choose widths by.
_DENSE_DEVIATION = 0.0012
#: Maximum number of readings of the dense network, and share of the time, to get there.
_MOST_DENSE_READINGS = 10
_DENSE_SHARE_OF_TIME = 0.125
#: Largest margin, relative: beyond it more readings cost less than more channels.
_LARGEST_MARGIN = 0.03
#: Factor of the margin with every file that was not shown to keep the budget.
_WIDER_MARGIN = 2.0
#: A reading is disturbed when its standard deviation is this multiple of the best one's.
_DISTURBED = 2.5
#: A disturbed reading's standard deviation at least, relative.
_LEAST_DISTURBED = 0.005
#: Default time for verification: the longer of this many seconds and the time of this many
#: measurements.
_DEFAULT_SECONDS = 600.0
_DEFAULT_MEASUREMENTS = 30
#: Share of the time left that further readings of one file may take.
_SHARE_OF_TIME = 0.5
#: Number of files that may be made wider again because they leave slack.
_WIDENINGS = 1


@dataclass(frozen=True)
class MeasureStructure:
    """Measure the gated network cut to these widths, without fine-tuning."""

    key: FileKey


@dataclass(frozen=True)
class MakeFile:
    """Cut to these widths, fine-tune, export, and measure the very file."""

    key: FileKey


@dataclass(frozen=True)
class MeasureAgain:
    """Measure the last file, or the dense network, once more after a pause."""

    key: FileKey
    #: Pause in the hope of a quieter machine, seconds.
    pause_seconds: float = 0.0


@dataclass(frozen=True)
class Stop:
    """Deliver the best file."""


Measuring = MeasureStructure | MakeFile | MeasureAgain
Action = Measuring | Stop


@dataclass(frozen=True, kw_only=True)
class LoopState:
    """What the loop has done and learned; `after` returns the next one."""

    goals: Sequence[Goal]
    #: Score of every channel [G][C]; channels with higher scores are kept.
    scores: Sequence[Floats]
    config: Verify
    #: Widths that the pruning method selected.
    selected: Widths
    actions: tuple[Measuring, ...] = ()

    def after(self, action: Measuring, readings: FileMeasurements) -> LoopState:
        """The state after an action and its reading on every target."""
        goals = [
            replace(goal, evidence=goal.evidence.added(action.key, reading))
            for goal, reading in zip(self.goals, readings, strict=True)
        ]
        return replace(self, goals=goals, actions=(*self.actions, action))

    @property
    def evidence(self) -> list[Evidence]:
        """All readings, one for each target."""
        return [goal.evidence for goal in self.goals]

    @property
    def structures(self) -> list[Widths]:
        """Widths of the measured structures."""
        return [a.key.widths for a in self.actions if isinstance(a, MeasureStructure)]

    @property
    def files(self) -> list[FileKey]:
        """The files made."""
        return [action.key for action in self.actions if isinstance(action, MakeFile)]

    @property
    def waited_seconds(self) -> float:
        return sum(a.pause_seconds for a in self.actions if isinstance(a, MeasureAgain))

    @property
    def seconds(self) -> float:
        """Time spent on the target that took longest, pauses included."""
        measuring = max(sum(r.seconds for _, r in one.readings) for one in self.evidence)
        return measuring + self.waited_seconds

    @property
    def seconds_allowed(self) -> float:
        """Time for verification on each target, seconds."""
        if self.config.seconds is not None:
            return self.config.seconds
        usual = max(median(r.seconds for _, r in one.readings) for one in self.evidence)
        return max(_DEFAULT_SECONDS, _DEFAULT_MEASUREMENTS * usual)

    @property
    def seconds_left(self) -> float:
        return self.seconds_allowed - self.seconds

    @property
    def seconds_a_reading(self) -> float:
        """Time that one more reading takes, as far as is known."""
        return max(_last(one).seconds for one in self.evidence)

    def measured(self, key: FileKey) -> FileMeasurements:
        """All readings of a file as one on every target."""
        return tuple(one.of(key) for one in self.evidence)

    def probability(self, key: FileKey) -> float:
        """Probability that a file keeps the budget on every target."""
        return math.prod(one.excess(key).probability for one in self.evidence)

    def outcome(self, key: FileKey) -> Outcome:
        """What the evidence says of a file."""
        return outcome_of(self.probability(key), self.config.confidence)

    @property
    def best_file(self) -> FileKey:
        """The slowest file that was shown to keep every budget; the likeliest to where none was."""
        search = self.search

        def rank(key: FileKey) -> tuple[bool, float]:
            if self.outcome(key) == "met":
                return True, search.worst_ms(self.measured(key))
            return False, self.probability(key)

        return max(self.files, key=rank)

    @property
    def margin(self) -> float:
        """Relative distance of the aim below the budget: what the readings' scatter asks for."""
        return margin_of(self.goals)

    @cached_property
    def search(self) -> WidthSearch:
        """The width search with everything measured so far; the margin grows with every miss."""
        misses = sum(self.outcome(key) != "met" for key in self.files)
        search = WidthSearch.create(
            [goal.predictor for goal in self.goals],
            [goal.budget_ms for goal in self.goals],
            self.scores,
            margin=self.margin * _WIDER_MARGIN**misses,
            slack=self.config.slack,
        )
        for key in dict.fromkeys(action.key for action in self.actions):
            if key.stage != "dense":
                search = search.measured(key.widths, self.measured(key))
        return search


def outcome_of(probability: float, confidence: float) -> Outcome:
    """What a probability of keeping the budget is called."""
    if probability >= confidence:
        return "met"
    return "not met" if probability <= 1 - confidence else "not decided"


def margin_of(goals: Sequence[Goal]) -> float:
    """Margin by the typical scatter of the readings on the worst target."""
    return min(_LARGEST_MARGIN, max(_margin(goal.evidence) for goal in goals))


def _margin(evidence: Evidence) -> float:
    file = evidence.noise / math.sqrt(_READINGS)
    return _MARGIN_DEVIATIONS * math.hypot(file, evidence.budget_deviation)


def decide(state: LoopState) -> Action:
    """What to do next: make the budget certain, settle the widths by structures, then make files
    and correct them.

    Raises:
        BudgetError: no structure keeps the budget as measured, and no narrower one exists.
    """
    if state.files:
        return _after_file(state)
    if state.structures:
        return _after_structure(state)
    if uncertain := _uncertain_budget(state):
        pause = state.config.pause_seconds if _is_disturbed(state) else 0.0
        return MeasureAgain(uncertain.dense_key, pause)
    return _structure(state.selected)


def _uncertain_budget(state: LoopState) -> Evidence | None:
    """The target whose dense latency has to be known better before widths are chosen."""
    shares = [one for one in state.evidence if one.budget_deviation]
    worst = max(shares, key=lambda one: one.dense.deviation, default=None)
    if worst is None or worst.dense.deviation <= _DENSE_DEVIATION:
        return None
    if worst.dense.taken >= _MOST_DENSE_READINGS:
        return None
    return worst if state.seconds < _DENSE_SHARE_OF_TIME * state.seconds_allowed else None


def _after_structure(state: LoopState) -> Action:
    """A file where the widths are settled, another structure otherwise.

    One correction is left for the file: the last one before it is not measured.
    """
    search = state.search
    widths = state.structures[-1]
    latency_ms = search.one_ms(widths)
    if search.is_good(widths, latency_ms):
        return _file(widths)
    following = search.next(widths, latency_ms)
    if following in state.structures:
        return _file(search.slowest_within(otherwise=widths))
    if len(state.structures) > state.config.rounds or _is_late(state):
        return _file(search.slowest_within(otherwise=following))
    return _structure(following)


def _after_file(state: LoopState) -> Action:
    """More readings while they can decide; a wider file after slack, a narrower one otherwise."""
    key = state.files[-1]
    outcome = state.outcome(key)
    has_time = state.seconds_left >= state.seconds_a_reading
    if has_time and not _is_seen_enough(state, key, _LEAST_READINGS):
        return _again(state, key)
    if outcome == "met":
        wider = _widened(state, key) if _leaves_slack(state, key) else None
        if wider is not None:
            return wider
        is_proven = not has_time or _is_seen_enough(state, key, _PROOF_READINGS)
        return Stop() if is_proven else MeasureAgain(key)
    if not has_time:
        return Stop()
    if outcome == "not decided" and _can_be_settled(state, key):
        return _again(state, key)
    if len(state.files) > state.config.late_rounds:
        return _again(state, key) if outcome == "not decided" else Stop()
    return _corrected(state, key)


def _is_seen_enough(state: LoopState, key: FileKey, least: int) -> bool:
    """Whether a file has been measured in so many processes, or is far from the budget."""
    worst = max(one.excess(key).mean for one in state.evidence)
    taken = min(one.of(key).taken for one in state.evidence)
    return taken >= least or abs(worst) > _FAR


def _is_late(state: LoopState) -> bool:
    """Whether the time left is just enough for a file and a few readings of it."""
    return state.seconds_left < 4 * state.seconds_a_reading


def _leaves_slack(state: LoopState, key: FileKey) -> bool:
    """Whether a file is probably too fast, and a wider one may be made."""
    if len(state.files) > min(_WIDENINGS, state.config.late_rounds) or _is_late(state):
        return False
    probable = tuple(
        replace(one, latency_ms=one.latency_ms * math.exp(one.deviation))
        for one in state.measured(key)
    )
    return state.search.is_too_fast(key.widths, state.search.worst_ms(probable))


def _widened(state: LoopState, key: FileKey) -> MakeFile | None:
    """A wider file; None where there is no new one."""
    following = state.search.next(key.widths, state.search.worst_ms(state.measured(key)))
    return None if _file(following).key in state.files else _file(following)


def _corrected(state: LoopState, key: FileKey) -> Action:
    search = state.search
    latency_ms = max(search.worst_ms(state.measured(key)), search.budget_ms)
    try:
        following = search.next(key.widths, latency_ms)
    except BudgetError:
        return Stop()  # the report says that the best file was not shown to keep the budget
    return Stop() if _file(following).key in state.files else _file(following)


def _can_be_settled(state: LoopState, key: FileKey) -> bool:
    """Whether as many readings as it takes to decide on a file fit into the time for it.

    A disturbed machine may become quiet, so that fewer suffice: it is given that chance.
    """
    allowed = _SHARE_OF_TIME * state.seconds_left
    needed = max(_readings_needed(one, key) for one in state.evidence)
    if needed * state.seconds_a_reading <= allowed:
        return True
    return _is_disturbed(state) and _pause(state, key) + state.seconds_a_reading <= allowed


def _readings_needed(evidence: Evidence, key: FileKey) -> float:
    """Number of readings, of the file or the dense network, until the interval excludes the budget,
    if they all are as those made.
    """
    parts = [evidence.of(key)] + ([evidence.dense] if evidence.budget_deviation else [])
    larger, *smaller = sorted(parts, key=lambda one: -one.deviation)
    wanted = (evidence.excess(key).mean / DEVIATIONS) ** 2 - evidence.reference_deviation**2
    left = wanted - sum(one.deviation**2 for one in smaller)
    if left > 0:
        return larger.taken * max(0.0, larger.deviation**2 / left - 1)
    if wanted <= 0:
        return math.inf
    variance = sum(one.deviation**2 for one in parts)
    return sum(one.taken for one in parts) * (variance / wanted - 1)


def _again(state: LoopState, key: FileKey) -> MeasureAgain:
    """One more reading of whichever makes the excess more certain: the file or the dense network.

    The file comes first until it has been measured in enough processes.
    """
    worst = max(state.evidence, key=lambda one: one.excess(key).mean)
    pause = _pause(state, key) if _is_disturbed(state) else 0.0
    is_file = not worst.budget_deviation or not _is_seen_enough(state, key, _LEAST_READINGS)
    if is_file or _gain(worst.of(key)) >= _gain(worst.dense):
        return MeasureAgain(key, pause)
    return MeasureAgain(worst.dense_key, pause)


def _gain(measured: FileMeasurement) -> float:
    """Decrease of the variance by one more reading."""
    return measured.deviation**2 / (measured.taken + 1)


def _is_disturbed(state: LoopState) -> bool:
    return any(_was_disturbed(one) for one in state.evidence)


def _was_disturbed(evidence: Evidence) -> bool:
    """Whether the last reading is much less certain than the best one on this target."""
    best = min(reading.deviation for _, reading in evidence.readings)
    return _last(evidence).deviation > max(_LEAST_DISTURBED, _DISTURBED * best)


def _pause(state: LoopState, key: FileKey) -> float:
    """The next pause for a file: twice the last one, within a quarter of the time left."""
    pauses = sum(
        action.pause_seconds > 0
        for action in state.actions[state.actions.index(MakeFile(key)) :]
        if isinstance(action, MeasureAgain)
    )
    return min(state.config.pause_seconds * 2.0**pauses, state.seconds_left / 4)


def _last(evidence: Evidence) -> FileMeasurement:
    return evidence.readings[-1][1]


def _structure(widths: Widths) -> MeasureStructure:
    return MeasureStructure(FileKey("structure", tuple(widths)))


def _file(widths: Widths) -> MakeFile:
    return MakeFile(FileKey("delivered", tuple(widths)))
