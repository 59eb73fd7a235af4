"""The state of the queue, the fleet and the predictors, for Prometheus.

Every replica reports the same figures from the same database, so aggregate them over replicas with
``max``, not ``sum``. No label holds a name, an id or anything else that somebody sends, so the
number of series is fixed, whatever the fleet does.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import get_args

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from latency_service.db.engine import Database
from latency_service.devices import repository as devices_repository
from latency_service.devices.service import online_since
from latency_service.jobs.schemas import FailureKind, JobKind, JobState
from latency_service.monitoring import repository
from latency_service.settings import Settings

log = structlog.get_logger(__name__)

#: How long figures are given out again without asking the database: scrapes cost it at most this
#: often, however many there are.
KEPT_SECONDS = 5.0
_AGENT_KINDS = ("device", "trainer")
_SHARES = (0.5, 0.9, 1.0)


class FleetCollector(Collector):
    """Reads the figures from the database when it is asked."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: list[Metric] = []
        self._read_at = -math.inf

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if self._clock() - self._read_at >= KEPT_SECONDS:
                self._kept = self._read()
                self._read_at = self._clock()
            yield from self._kept

    def _read(self) -> list[Metric]:
        up = GaugeMetricFamily("latency_service_database_up", "Whether the database answers")
        try:
            with self._database.read() as session:
                found = list(_figures(session, online_since(session, self._settings)))
        except SQLAlchemyError as error:
            log.warning("figures_unavailable", cause=str(error))
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        return [up, *found]


def make_registry(database: Database, settings: Settings) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(FleetCollector(database, settings))
    return registry


def _figures(session: Session, since: datetime) -> Iterator[Metric]:
    yield _jobs(repository.jobs_by_kind_and_state(session))
    yield _gauge(
        "oldest_waiting_seconds",
        "Age of the oldest job that waits, s",
        "kind",
        get_args(JobKind),
        repository.waiting_seconds(session),
    )
    yield from _leases(*repository.leases(session))
    yield _failures(repository.failures_by_kind(session))
    online = repository.online_agents(session, since)
    yield _gauge("agents_online", "Agents heard of lately", "kind", _AGENT_KINDS, online)
    states = repository.devices_by_state(session, since)
    yield _gauge("devices", "Devices by state", "state", tuple(states), states)
    yield GaugeMetricFamily(
        "latency_service_devices_differing",
        "Devices whose latencies differ from those of another with the same fingerprint",
        value=devices_repository.count_differing(session),
    )
    yield from _predictors(repository.predictor_errors(session))


def _jobs(counts: Mapping[tuple[str, str], int]) -> Metric:
    """Zero where there are none, so that a rule over an empty queue has a value."""
    family = GaugeMetricFamily("latency_service_jobs", "Jobs", labels=["kind", "state"])
    for kind in get_args(JobKind):
        for state in get_args(JobState):
            family.add_metric([kind, state], counts.get((kind, state), 0))
    return family


def _gauge(
    name: str, help_text: str, label: str, values: Sequence[str], counts: Mapping[str, float]
) -> Metric:
    family = GaugeMetricFamily(f"latency_service_{name}", help_text, labels=[label])
    for value in values:
        family.add_metric([value], counts.get(value, 0))
    return family


def _leases(held: int, oldest_seconds: float, overdue: int) -> Iterator[Metric]:
    yield GaugeMetricFamily("latency_service_leases", "Leases held", value=held)
    yield GaugeMetricFamily(
        "latency_service_oldest_lease_seconds", "Age of the oldest lease, s", value=oldest_seconds
    )
    yield GaugeMetricFamily(
        "latency_service_leases_overdue",
        "Leases that have run out and were not given out again yet",
        value=overdue,
    )


def _failures(counts: Mapping[str, int]) -> Metric:
    known = get_args(FailureKind)
    family = CounterMetricFamily(
        "latency_service_attempt_failures", "Attempts that failed", labels=["kind"]
    )
    for kind in known:
        family.add_metric([kind], counts.get(kind, 0))
    family.add_metric(["other"], sum(n for kind, n in counts.items() if kind not in known))
    return family


def _predictors(errors: Sequence[tuple[float, bool]]) -> Iterator[Metric]:
    current = sorted(mape for mape, is_current in errors if is_current)
    counts = {"current": len(current), "stale": len(errors) - len(current)}
    yield _gauge(
        "predictors", "Newest predictors of a space and target", "state", tuple(counts), counts
    )
    family = GaugeMetricFamily(
        "latency_service_predictor_error_percent",
        "Held-out mean absolute percentage error of current predictors: the share `quantile` of "
        "them has at most this",
        labels=["quantile"],
    )
    for share in _SHARES if current else ():
        family.add_metric([f"{share:g}"], current[math.ceil(share * len(current)) - 1])
    yield family
