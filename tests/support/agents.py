"""A real agent loop in a thread, with a profiler that makes its numbers up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from latency_service.agent.loop import AgentLoop
from latency_service.agent.measuring.ipc import CanaryReadings, ChildResult
from latency_service.agent.measuring.profiler import LeaseResult, Reference
from latency_service.agent.measuring.sandbox import Cancelled
from latency_service.agent.state import State
from latency_service.core.client.agent_client import AgentClient
from latency_service.core.transport import Transport
from latency_service.devices.schemas import Cadence, Fingerprint, RuntimeConfig
from latency_service.measurements.schemas import ArchitectureResult, Calibration, Protocol, Round
from tests.support.fake_agent_service import AGENT
from tests.support.tiny import QUICK

FLOOR_MS = [0.1, 0.35, 0.9]


class FakeProfiler:
    """Gives made-up numbers at once; or holds until it is cancelled, or `release` is set; or fails
    as it is told.
    """

    def __init__(self) -> None:
        self.release = threading.Event()
        self.begun = threading.Event()
        self.release.set()
        self.reasons: list[str] = []
        self.fails: Exception | None = None
        self.files: list[bytes] = []
        self.references: list[Reference | None] = []

    def batch(
        self,
        space: bytes,
        widths: Sequence[Sequence[int]],
        runtime: RuntimeConfig,
        protocol: Protocol,
        *,
        seed: int = 0,
        cancelled: Callable[[], str | None],
    ) -> LeaseResult:
        return self._measure(space, len(widths), runtime, cancelled)

    def file(
        self,
        model: bytes,
        runtime: RuntimeConfig,
        protocol: Protocol,
        *,
        seed: int = 0,
        reference: Reference | None = None,
        cancelled: Callable[[], str | None],
    ) -> LeaseResult:
        self.references.append(reference)
        return self._measure(model, 1, runtime, cancelled)

    def _measure(
        self, file: bytes, count: int, runtime: RuntimeConfig, cancelled: Callable[[], str | None]
    ) -> LeaseResult:
        self.files.append(file)
        self.begun.set()
        while not self.release.wait(0.01):
            if reason := cancelled():
                self.reasons.append(reason)
                raise Cancelled(reason)
        if self.fails is not None:
            raise self.fails
        visit = Round(at_seconds=0, latency_ms=0.5, runs=5, before_ms=FLOOR_MS, after_ms=FLOOR_MS)
        return LeaseResult(
            Fingerprint(runtime=runtime, facts={"cpu": "made up"}),
            Calibration(canaries=["tiny", "half", "full"], floor_ms=FLOOR_MS),
            ChildResult(
                results=[
                    ArchitectureResult(index=i, rounds=[visit] * 9, stopped="precise")
                    for i in range(count)
                ],
                readings=CanaryReadings(
                    canaries=["tiny", "half", "full"],
                    floor_ms=FLOOR_MS,
                    typical_ms=FLOOR_MS,
                    count=30,
                ),
                wall_seconds=1,
                timed_seconds=0.5,
            ),
        )


class Agent:
    """A loop in a thread."""

    def __init__(self, url: str, state: State, profiler: Any) -> None:
        self.stop = threading.Event()
        self.state = state
        self.error = None
        self._http = Transport(url, AGENT)
        self._loop = AgentLoop(
            AgentClient(self._http),
            profiler,
            state,
            self.stop,
            max_opset=21,
            cadence=Cadence(heartbeat_seconds=0.05, poll_seconds=0.02, wait_seconds=25.0),
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._http:
            self._loop.run()

    def end(self) -> float:
        """Stop it; the seconds that it took."""
        began = time.monotonic()
        self.stop.set()
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()
        return time.monotonic() - began


def eventually(what: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def lease_of(attempt_id: str, space_id: str, **more: Any) -> dict[str, Any]:
    return {
        "attempt_id": attempt_id,
        "job_id": "j1",
        "number": 1,
        "kind": "measure",
        "lease_seconds": 30,
        "renew_seconds": 0.05,
        "runtime": RuntimeConfig().model_dump(),
        "protocol": QUICK.model_dump(),
        "space_id": space_id,
        "model_sha256": None,
        "opset": 17,
        "seed": 1,
        "architectures": [{"index": 3, "widths": [8, 8]}, {"index": 5, "widths": [4, 16]}],
        **more,
    }
