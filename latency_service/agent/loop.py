"""The agent's loop: deliver spooled results, lease a job, measure, submit the result.

Service, profiler and stop event are injected.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import structlog
from pydantic import ValidationError
from structlog.contextvars import bound_contextvars

from latency_service.agent.fingerprint import load, temperature_c
from latency_service.agent.leases import check_lease, invalid, renew_seconds
from latency_service.agent.measuring.ipc import MeasuringFailed
from latency_service.agent.measuring.profiler import LeaseResult, Profiler, Reference, results_of
from latency_service.agent.measuring.sandbox import Cancelled
from latency_service.agent.state import State
from latency_service.core.client.agent_client import (
    AgentClient,
    UnusableLease,
    WrongContent,
    encode,
)
from latency_service.core.kill_points import pass_kill_point
from latency_service.core.retry import Stopped, until_answered
from latency_service.core.text import MAX_LOG, MAX_MESSAGE, plain
from latency_service.core.transport import ApiError, is_retryable
from latency_service.devices.schemas import Cadence, HeartbeatRequest
from latency_service.jobs.schemas import Failure, Lease
from latency_service.measurements.schemas import ResultBody

log = structlog.get_logger(__name__)

#: Lower limit of the time that a request for work waits at the service, behind a proxy that cuts
#: waiting requests off.
SHORTEST_WAIT_SECONDS = 1.0
#: Time after which a failed request for work counts as cut off by a proxy, not as refused.
HELD_SECONDS = 1.0
#: Status codes for a result that is no longer wanted: its attempt is unknown, ended or cancelled.
NOT_WANTED = {404, 409, 410}
#: Longest time that an unresponsive service can delay the agent's shutdown.
LAST_WORD_SECONDS = 0.9


class Displaced(Exception):
    """Another process has registered from a copy of this agent's state folder."""


class AgentLoop:
    """The loop of one agent. `run` returns once `stop` is set; every finished result has then been
    delivered or spooled.
    """

    def __init__(
        self,
        api: AgentClient,
        profiler: Profiler,
        state: State,
        stop: threading.Event,
        *,
        max_opset: int,
        cadence: Cadence,
        instance: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._api = api
        self._profiler = profiler
        self._state = state
        self._stop = stop
        self._max_opset = max_opset
        self._cadence = cadence
        self._instance = instance
        self._clock = clock
        self._jitter = jitter
        self._displaced = False
        self._attempt_id: str | None = None
        self._paused = self._beaten = False
        self._longest_wait_seconds = math.inf
        #: Reason to cancel the running attempt.
        self._cancel: str | None = None

    def run(self) -> None:
        """Work until stopped.

        Raises:
            ApiError: the service refuses this agent (its token is no longer valid).
            Displaced: another process has registered as this agent.
        """
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        try:
            while not self._stop.is_set():
                self._deliver()
                lease = None if self._paused else self._next_lease()
                if lease is not None:
                    self._work(lease)
                elif self._stop.wait(self._cadence.poll_seconds * self._jitter()):
                    break
        except Stopped:
            log.debug("stopped_while_asking")
        finally:
            self._stop.set()
            heart.join(timeout=LAST_WORD_SECONDS)
        if self._displaced:
            raise Displaced

    def _next_lease(self) -> Lease | None:
        """The next lease. One that cannot be read is given back as failed, and is none."""
        try:
            return until_answered(self._lease, self._stop.wait)
        except UnusableLease as error:
            log.error("unusable_lease", attempt=error.attempt_id, cause=error.cause)
            if error.attempt_id is not None:
                self._fail(error.attempt_id, _failure(invalid(error.cause)))
            return None

    def _lease(self) -> Lease | None:
        """Next lease, or None if there is no work.

        A request that is cut off while it waits also gives None, without growing back-off, and
        the next request waits half as long.
        """
        began = self._clock()
        wait_seconds = min(self._cadence.wait_seconds, self._longest_wait_seconds)
        try:
            return self._api.lease(wait_seconds)
        except ApiError as error:
            held_seconds = self._clock() - began
            if held_seconds < HELD_SECONDS or not is_retryable(error):
                raise
            self._longest_wait_seconds = max(SHORTEST_WAIT_SECONDS, held_seconds / 2)
            log.info("poll_cut", cause=error.message, held_seconds=round(held_seconds, 1))
            return None

    def _work(self, lease: Lease) -> None:
        with bound_contextvars(job=lease.job_id, attempt=lease.attempt_id):
            log.info("leased", kind=lease.kind, architectures=len(lease.architectures))
            self._try(lease)

    def _try(self, lease: Lease) -> None:
        """Carry a lease out, or tell why not."""
        self._attempt_id = lease.attempt_id
        self._cancel = None
        pass_kill_point("leased-before-measuring")
        try:
            self._carry_out(lease)
        except Cancelled as reason:
            log.warning("cancelled", reason=str(reason))
            if self._stop.is_set():
                self._fail(
                    lease.attempt_id,
                    Failure(kind="agent_lost", message="the agent was stopped while measuring"),
                )
        except (ApiError, Stopped):
            raise
        except Exception as error:
            log.warning("lease_failed", attempt=lease.attempt_id, exc_info=error)
            self._fail(lease.attempt_id, _failure(error))
        finally:
            self._attempt_id = None

    def _carry_out(self, lease: Lease) -> None:
        check_lease(lease)
        with self._renewing(lease):
            measured = self._measure(lease)
        pass_kill_point("measured-before-spooling")
        self._state.spool(lease.attempt_id, encode(_result(lease, measured)))
        pass_kill_point("spooled-before-send")
        self._deliver()

    def _measure(self, lease: Lease) -> LeaseResult:
        if lease.opset > self._max_opset:
            raise MeasuringFailed(
                "version_mismatch",
                f"the graph needs ONNX opset {lease.opset}, but this device's ONNX Runtime "
                f"supports at most {self._max_opset}. "
                "Upgrade it on the device: pip install --upgrade onnxruntime onnx.",
            )
        space = self._state.space(
            lease.space_id, lambda sha256: self._fetched(self._api.space, sha256)
        )
        if lease.kind == "verify":
            model = self._fetched(self._api.model, str(lease.model_sha256))
            return self._profiler.file(
                model,
                lease.runtime,
                lease.protocol,
                seed=lease.seed,
                reference=Reference("space", space),
                cancelled=self._cancelled,
            )
        widths = [architecture.widths for architecture in lease.architectures]
        return self._profiler.batch(
            space, widths, lease.runtime, lease.protocol, seed=lease.seed, cancelled=self._cancelled
        )

    def _fetched(self, fetch: Callable[[str], bytes], sha256: str) -> bytes:
        try:
            return until_answered(lambda: fetch(sha256), self._stop.wait)
        except ApiError as error:
            raise MeasuringFailed("internal", f"the graph cannot be fetched: {error}") from error

    def _cancelled(self) -> str | None:
        return "the agent is stopping" if self._stop.is_set() else self._cancel

    @contextlib.contextmanager
    def _renewing(self, lease: Lease) -> Iterator[None]:
        """Renew the lease until the context ends; a lost or cancelled lease ends the measuring."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(renew_seconds(lease)):
                try:
                    self._api.renew(lease.attempt_id)
                except ApiError as error:
                    if not is_retryable(error):
                        if not done.is_set():  # otherwise another attempt may run by now
                            self._cancel = error.message
                        return
                    log.warning("renewal_failed", cause=error.message)

        # its log lines name the same job
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(renew,), name="renew", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(timeout=0 if self._stop.is_set() else 5)

    def _deliver(self) -> None:
        for attempt_id, body in list(self._state.spooled()):
            try:
                deliver = partial(self._api.result, attempt_id, body)
                answer = until_answered(deliver, self._stop.wait)
            except ApiError as error:
                if error.status == 401:
                    raise
                kept = self._state.refused(attempt_id)
                log.error("result_refused", attempt=attempt_id, cause=error.message, kept=str(kept))
                if error.status not in NOT_WANTED:
                    self._fail(attempt_id, _refusal(error, len(body), kept))
            else:
                pass_kill_point("delivered-before-removal")
                self._state.delivered(attempt_id)
                pass_kill_point("removed-after-delivery")
                log.info("delivered", attempt=attempt_id, outcome=answer.outcome)

    def _fail(self, attempt_id: str, failure: Failure) -> None:
        log.warning("failed", attempt=attempt_id, kind=failure.kind, cause=failure.message)
        try:
            if self._stop.is_set():
                self._api.failure(attempt_id, failure, timeout_seconds=LAST_WORD_SECONDS)
            else:
                until_answered(lambda: self._api.failure(attempt_id, failure), self._stop.wait)
        except ApiError as error:  # the lease runs out by itself, and another attempt follows
            log.warning("failure_not_taken", attempt=attempt_id, cause=error.message)

    def _beat(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(self._pause_seconds() if self._beaten else 0)
            self._beaten = True
            self._send_heartbeat(stopping)

    def _pause_seconds(self) -> float:
        """Time until the next heartbeat: agents that were started together drift apart."""
        return self._cadence.heartbeat_seconds * (0.75 + 0.5 * self._jitter())

    def _send_heartbeat(self, stopping: bool) -> None:
        attempt_id = self._attempt_id
        state: Literal["idle", "measuring", "stopping"] = "measuring" if attempt_id else "idle"
        request = HeartbeatRequest(
            state="stopping" if stopping else state,
            load=load(),
            temperature_c=temperature_c(),
            attempt_id=attempt_id,
            instance=self._instance,
        )
        try:
            answer = self._api.heartbeat(request)
        except (ApiError, ValidationError) as error:
            log.debug("heartbeat_failed", cause=str(error))
            return
        self._cadence = answer.cadence
        if answer.command == "stop":
            self._displaced = True
            self._stop.set()
        self._paused = answer.command == "pause"
        if answer.command == "cancel" and attempt_id == self._attempt_id:
            self._cancel = "cancelled by the service"


def _failure(error: Exception) -> Failure:
    """The typed failure that an exception stands for, as text that any database keeps."""
    if isinstance(error, MeasuringFailed):
        return Failure(
            kind=error.kind,
            message=plain(error.message, MAX_MESSAGE),
            log_tail=plain(error.log_tail, MAX_LOG),
        )
    if isinstance(error, OSError):
        cause = f"the agent cannot write its files: {error}"
        return Failure(kind="device_unhealthy", message=plain(cause, MAX_MESSAGE))
    cause = str(error) if isinstance(error, WrongContent) else f"{type(error).__name__}: {error}"
    return Failure(kind="internal", message=plain(cause, MAX_MESSAGE))


def _refusal(error: ApiError, size_bytes: int, kept: Path) -> Failure:
    """Failure for a result that the service refused; measuring it again would not help."""
    cause = f"{error.message} {error.cure}".strip()[:3000]
    return Failure(
        kind="result_refused",
        message=f"the service refused the result ({size_bytes / 1000:.0f} kB before compression): "
        f"{cause} The device keeps it in {kept}.",
    )


def _result(lease: Lease, measured: LeaseResult) -> ResultBody:
    answer = measured.answer
    indices = [architecture.index for architecture in lease.architectures] or [0]
    return ResultBody(
        fingerprint=measured.fingerprint,
        calibration=measured.calibration,
        results=results_of(answer, indices),
        wall_seconds=answer.wall_seconds,
        timed_seconds=answer.timed_seconds,
    )
