"""A simulated agent: the project's own agent, apart from a profiler that draws its numbers.

``python -m benchmarks.support.chaos.agent --server URL --name BOARD --state-dir FOLDER ...``
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.support.chaos.history import (
    Acknowledged,
    History,
    Leased,
    Refused,
    Registered,
    Sent,
)
from latency_service.agent.main import run_agent
from latency_service.agent.measuring.ipc import CanaryReadings, ChildResult
from latency_service.agent.measuring.profiler import LeaseResult, Profiler, Reference
from latency_service.agent.measuring.sandbox import Cancelled, Limits
from latency_service.agent.testing import CANARIES, FLOOR_MS, quiet_round
from latency_service.cli.running import stop_on_signals
from latency_service.core.client.agent_client import AgentClient
from latency_service.core.transport import ApiError, Transport
from latency_service.devices.schemas import (
    Fingerprint,
    RegisterRequest,
    RegisterResponse,
    RuntimeConfig,
)
from latency_service.jobs.schemas import Lease, ResultAnswer
from latency_service.measurements.schemas import (
    ArchitectureResult,
    Calibration,
    Protocol,
    ResultBody,
)

#: Shortest and longest time of a measurement, s; and how long one in thirty takes.
QUICK_SECONDS = (0.002, 0.03)
SLOW_SECONDS = 1.0
#: Slowest and fastest architecture, ms.
LATENCY_MS = (0.2, 2.0)
#: How often a measurement looks whether it is still wanted.
_LOOK_SECONDS = 0.02


class DrawingProfiler(Profiler):
    """Draws a latency for each architecture, after a time in which nothing is measured."""

    def batch(
        self,
        space: bytes,
        widths: Sequence[Sequence[int]],
        runtime: RuntimeConfig,
        protocol: Protocol,
        *,
        seed: int = 0,
        cancelled: Callable[[], str | None] = lambda: None,
    ) -> LeaseResult:
        return _drawn(len(widths), runtime, protocol, cancelled)

    def file(
        self,
        model: bytes,
        runtime: RuntimeConfig,
        protocol: Protocol,
        *,
        seed: int = 0,
        reference: Reference | None = None,
        cancelled: Callable[[], str | None] = lambda: None,
        limits: Limits | None = None,
    ) -> LeaseResult:
        return _drawn(1, runtime, protocol, cancelled)


def _drawn(
    count: int, runtime: RuntimeConfig, protocol: Protocol, cancelled: Callable[[], str | None]
) -> LeaseResult:
    is_slow = random.random() < 1 / 30
    _pass_time(SLOW_SECONDS if is_slow else random.uniform(*QUICK_SECONDS), cancelled)
    results = [_drawn_result(index, protocol.min_rounds) for index in range(count)]
    readings = CanaryReadings(
        canaries=CANARIES, floor_ms=FLOOR_MS, typical_ms=FLOOR_MS, count=2 * protocol.min_rounds
    )
    return LeaseResult(
        Fingerprint(runtime=runtime, facts={"cpu": "simulated"}),
        Calibration(canaries=CANARIES, floor_ms=FLOOR_MS),
        ChildResult(results=results, readings=readings, wall_seconds=1.0, timed_seconds=0.8),
    )


def _pass_time(seconds: float, cancelled: Callable[[], str | None]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if reason := cancelled():
            raise Cancelled(reason)
        time.sleep(min(left, _LOOK_SECONDS))


def _drawn_result(index: int, rounds: int) -> ArchitectureResult:
    latency_ms = random.uniform(*LATENCY_MS)
    return ArchitectureResult(
        index=index, rounds=[quiet_round(at, latency_ms) for at in range(rounds)], stopped="precise"
    )


class RecordingClient(AgentClient):
    """Writes down what the agent asks for and what it is told, before the agent acts on it."""

    def __init__(self, transport: Transport, agent: str, history: History) -> None:
        super().__init__(transport)
        self._agent = agent
        self._history = history

    def register(self, request: RegisterRequest) -> RegisterResponse:
        answer = super().register(request)
        self._history.write(Registered(agent=self._agent, agent_id=answer.agent_id))
        return answer

    def lease(self, wait_seconds: float) -> Lease | None:
        lease = super().lease(wait_seconds)
        if lease is not None:
            self._history.write(
                Leased(
                    agent=self._agent,
                    attempt_id=lease.attempt_id,
                    job_id=lease.job_id,
                    number=lease.number,
                )
            )
        return lease

    def result(self, attempt_id: str, body: bytes) -> ResultAnswer:
        sent = ResultBody.model_validate_json(body)
        latency_ms = [one.rounds[0].latency_ms for one in sent.results]
        self._history.write(Sent(agent=self._agent, attempt_id=attempt_id, latency_ms=latency_ms))
        try:
            answer = super().result(attempt_id, body)
        except ApiError as error:
            self._note_refusal(attempt_id, error)
            raise
        self._history.write(
            Acknowledged(agent=self._agent, attempt_id=attempt_id, **answer.model_dump())
        )
        return answer

    def _note_refusal(self, attempt_id: str, error: ApiError) -> None:
        self._history.write(Refused(agent=self._agent, attempt_id=attempt_id, status=error.status))


def main(stop: threading.Event) -> int:
    """Run until stopped; the exit codes are those of ``latency-service agent``."""
    options = _parser().parse_args()
    agent = options.state_dir.name
    history = History(options.history)
    return run_agent(
        options.server,
        options.token,
        name=options.name,
        state_dir=options.state_dir,
        stop=stop,
        make_profiler=DrawingProfiler,
        make_client=lambda transport: RecordingClient(transport, agent, history),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--token", help="enrolment token, until the agent has registered")
    parser.add_argument("--name", required=True, help="name of the device")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--history", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main(stop_on_signals()))
