"""Proof by measurement: whole files timed on the target, and the closed loop that corrects widths by them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs.schemas import VerifyRequest
from latency_service.measurements.schemas import Protocol
from pruning_client import allocators
from pruning_client.client import Client
from pruning_client.config import VerifyConfig
from pruning_client.errors import BudgetError, MeasurementFailed
from pruning_client.latency import Predictor
from pruning_client.methods.base import Floats
from pruning_client.progress import Progress, Step, silent
from pruning_client.results import Stage, Verification

#: More patient than a campaign's: one file decides.
PROTOCOL = Protocol(min_rounds=15, max_rounds=200, budget_seconds=12.0)
#: Measurements of one file when its interval does not get narrow enough.
_TRIES = 2

Widths = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One file on the target. Latencies in ms, 95 % interval."""

    latency_ms: float
    lower_ms: float
    upper_ms: float
    verdict: str
    measurement_id: str
    target_id: str
    model_sha256: str


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """Measures files on one target."""

    client: Client
    device: str
    runtime: RuntimeConfig
    space_id: str
    config: VerifyConfig
    progress: Progress = silent

    def measure(self, data: bytes, widths: Sequence[int], *, phase: str) -> Measured:
        """Upload this very file and time it; an unstable measurement is repeated once and the narrower one taken.

        Raises:
            MeasurementFailed: the agent gave up, with its reason.
            Timeout: no agent took it in time.
        """
        tries: list[Measured] = []
        for number in range(_TRIES):
            self.progress(Step(phase=phase, done=number, total=number + 1, unit="measurements"))
            tries.append(self._once(data, widths))
            if tries[-1].verdict == "ok":
                break
        self.progress(Step(phase=phase, done=len(tries), total=len(tries), unit="measurements"))
        return min(tries, key=lambda m: (m.upper_ms - m.lower_ms) / m.latency_ms)

    def _once(self, data: bytes, widths: Sequence[int]) -> Measured:
        client, digest = self.client, self.client.upload_model(data)
        request = VerifyRequest(
            device=self.device, model_sha256=digest, space_id=self.space_id, widths=list(widths), runtime=self.runtime,
            protocol=PROTOCOL,
        )  # fmt: skip
        job = client.create_verification(request)
        job = client.wait_for_job(job.id, timeout_seconds=self.config.timeout_seconds)
        if job.state != "done" or not job.result:
            reason = job.failure.message if job.failure else f"the job is {job.state}"
            raise MeasurementFailed(
                f"The device {self.device!r} could not measure the network: {reason}.",
                f"See `latency-service devices show {self.device}` and the agent's log.",
            )
        found = client.measurement(str(job.result["measurement_ids"][0]))
        summary = found.summary
        return Measured(
            latency_ms=summary.latency_ms, lower_ms=summary.lower_ms, upper_ms=summary.upper_ms,
            verdict=summary.verdict, measurement_id=found.id, target_id=found.target_id,
            model_sha256=hashlib.sha256(data).hexdigest(),
        )  # fmt: skip


@dataclass
class Correction:
    """Widths corrected by measurements until they use the budget and no more.

    The ratio of measured to predicted latency at the last widths says where to aim next: it holds well for the
    neighbouring architectures that a correction moves to.
    """

    predictor: Predictor
    scores: list[Floats]
    budget_ms: float
    config: VerifyConfig
    seen: dict[Widths, Measured] = field(default_factory=dict)
    log: list[Verification] = field(default_factory=list)

    def settle(self, widths: Sequence[int], measure: Callable[[Widths], Measured]) -> Widths:
        """Measure structures and correct them; the widest architecture seen that keeps the budget.

        Raises:
            BudgetError: none of those measured keeps it, and none narrower is there.
        """
        current = tuple(widths)
        for number in range(max(1, self.config.structure_rounds)):
            if number and current in self.seen:
                break
            self.note("structure", current, measure(current))
            if self._is_good(current):
                return current
            current = self.next(current)
        keeping = [w for w, m in self.seen.items() if m.latency_ms <= self._wanted_ms]
        if keeping:
            return max(keeping, key=lambda w: self.seen[w].latency_ms)
        return current

    def next(self, widths: Widths) -> Widths:
        """Where to go from widths that were measured."""
        predicted = self.predictor.one_ms(widths)
        ratio = self.seen[widths].latency_ms / predicted
        aim = self.budget_ms * (1 - self.config.margin) / ratio
        if ratio * predicted > self._wanted_ms:
            aim = min(aim, predicted * (1 - 1e-6))
        lattice, latency = self.predictor.lattice, self.predictor.latency_ms
        try:
            return tuple(allocators.fit(widths, self.scores, latency, lattice, aim))
        except BudgetError as error:
            raise BudgetError(
                f"A budget of {self.budget_ms:.4g} ms is below what this network reaches on the device as measured. "
                f"{error.message}",
                error.cure,
            ) from error

    def note(self, stage: Stage, widths: Widths, measured: Measured) -> None:
        """Remember a measurement."""
        self.seen[widths] = measured
        predicted = self.predictor.one_ms(widths)
        self.log.append(verification(stage, widths, predicted, measured))

    @property
    def _wanted_ms(self) -> float:
        """Half of the margin is kept for the measurement of the delivered file, which may come out higher."""
        return self.budget_ms * (1 - self.config.margin / 2)

    def _is_good(self, widths: Widths) -> bool:
        full = all(width == choices[-1] for width, choices in zip(widths, self.predictor.lattice, strict=True))
        latency = self.seen[widths].latency_ms
        return latency <= self._wanted_ms and (full or latency >= self.budget_ms * (1 - self.config.slack))


def verification(stage: Stage, widths: Sequence[int], predicted_ms: float | None, measured: Measured) -> Verification:
    """A measurement as the report shows it."""
    return Verification(
        stage=stage, widths=list(widths), predicted_ms=predicted_ms, latency_ms=measured.latency_ms,
        lower_ms=measured.lower_ms, upper_ms=measured.upper_ms, verdict=measured.verdict,
        measurement_id=measured.measurement_id, model_sha256=measured.model_sha256,
    )  # fmt: skip
