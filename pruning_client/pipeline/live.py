"""A job reported to the service while it goes on, so that people can watch it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from latency_service.core.client import Client
from latency_service.core.text import MAX_MESSAGE, plain
from latency_service.core.transport import ApiError, is_retryable
from latency_service.core.wire import finite
from latency_service.runs.schemas import (
    MAX_ENTRIES,
    MAX_PHASE,
    HistoryEntry,
    RunProgress,
    RunRequest,
    RunVerification,
)
from pruning_client.execution import distributed
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.job import PruningJob
from pruning_client.reports.schema import Verification

#: Least time between two reports, seconds.
PAUSE_SECONDS = 1.0
#: Longest time in which the rest is sent when a job ends, seconds.
DRAIN_SECONDS = 10.0
#: Longest time in which the reason of a failure is sent after that, seconds.
FAILURE_SECONDS = 10.0
#: Pause before the rest is sent again to a service that does not answer, seconds.
_RETRY_SECONDS = 0.5

Part = TypeVar("Part", bound=BaseModel)
log = logging.getLogger(__name__)


class Recorder:
    """Sends what happens in a job to its run, from a thread of its own.

    The job goes on when the service does not answer; what could not be sent is sent later. What the
    service refuses is left out.
    """

    def __init__(
        self,
        client: Client,
        run_id: str,
        *,
        pause_seconds: float,
        drain_seconds: float = DRAIN_SECONDS,
        failure_seconds: float = FAILURE_SECONDS,
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._pause_seconds = pause_seconds
        self._drain_seconds = drain_seconds
        self._failure_seconds = failure_seconds
        self._lock = threading.Lock()
        self._draining = threading.Event()
        self._drain_until = 0.0
        self._thread = threading.Thread(target=self._keep_sending, daemon=True)
        self._latest = ProgressEvent(phase="prune", done=0, total=0)
        self._entries: list[HistoryEntry] = []
        self._sent = 0
        self._verifications: list[RunVerification] = []
        self._verifications_sent = 0
        self._told: tuple[str, int, int] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def note(self, event: ProgressEvent) -> None:
        """Take an event of the job; returns at once."""
        entries = list(_valid(HistoryEntry, event.entries))
        with self._lock:
            self._latest = event
            self._entries += entries

    def note_verifications(self, verifications: Sequence[Verification]) -> None:
        """Take all measurements of files so far; returns at once."""
        found = list(_valid(RunVerification, [one.model_dump() for one in verifications]))
        with self._lock:
            self._verifications = found

    def drain(self) -> None:
        """Send the rest for at most `drain_seconds`, and end the thread."""
        if self._draining.is_set():
            return
        self._drain_until = time.monotonic() + self._drain_seconds
        self._draining.set()
        self._thread.join(self._drain_seconds)

    def finish(self, report: dict[str, Any]) -> str:
        """Send the rest, then the report of the job; the run's id.

        Raises:
            ApiError: The service does not take the report.
        """
        self.drain()
        return self._client.finish_run(self._run_id, report).id

    def fail(self, error: BaseException) -> None:
        """Send the rest, then why the job has failed, for at most `failure_seconds`."""
        self.drain()
        message = plain(f"{type(error).__name__}: {error}", MAX_MESSAGE)
        teller = threading.Thread(target=self._tell_failure, args=(message,), daemon=True)
        teller.start()
        teller.join(self._failure_seconds)

    def _tell_failure(self, message: str) -> None:
        # progress that arrives later would make it a run that goes on
        self._thread.join()
        # the job has closed the client where the service took too long
        with contextlib.suppress(ApiError, RuntimeError):
            self._client.fail_run(self._run_id, message)

    def _keep_sending(self) -> None:
        while not self._draining.wait(self._pause_seconds):
            if (news := self._news()) is not None:
                self._send(news)
        while (news := self._news()) is not None and time.monotonic() < self._drain_until:
            if not self._send(news):
                time.sleep(min(_RETRY_SECONDS, self._drain_seconds))

    def _send(self, news: RunProgress) -> bool:
        """Whether the service has taken or refused it; otherwise it can be sent again."""
        try:
            self._client.report_progress(self._run_id, news)
        except (ApiError, ValueError) as error:
            log.debug("progress of run %s was not sent: %s", self._run_id, error)
            if is_retryable(error):
                return False
            with self._lock:
                del self._entries[self._sent : self._sent + len(news.entries)]
        else:
            self._sent += len(news.entries)
        self._told = (news.phase, news.done, news.total)
        self._verifications_sent = max(self._verifications_sent, len(news.verifications or []))
        return True

    def _news(self) -> RunProgress | None:
        """What has not been sent yet; None where there is nothing."""
        with self._lock:
            event = self._latest
            entries = self._entries[self._sent : self._sent + MAX_ENTRIES]
            verifications = self._verifications
        present = (event.phase[:MAX_PHASE], event.done, event.total)
        is_new = len(verifications) > self._verifications_sent
        if present == self._told and not entries and not is_new:
            return None
        more: dict[str, Any] = {"verifications": verifications} if is_new else {}
        return RunProgress(
            phase=present[0],
            done=event.done,
            total=event.total,
            first=self._sent,
            entries=entries,
            **more,
        )


@contextlib.contextmanager
def recorded(job: PruningJob, goals: Sequence[Goal]) -> Iterator[PruningJob]:
    """The job with a run in the service that follows it.

    The run ends with the job's report; without one it has failed, and the reason is recorded.
    """
    run_id = job.journal.value("run", str, lambda: _begin(job, goals))
    if distributed.rank() > 0:
        yield job
        return
    recorder = Recorder(job.client, run_id, pause_seconds=PAUSE_SECONDS)
    recorder.start()
    try:
        progress = _both(job.progress, recorder.note)
        yield replace(job, progress=progress, recorder=recorder)
    except BaseException as error:
        recorder.fail(error)
        raise
    recorder.drain()


def _begin(job: PruningJob, goals: Sequence[Goal]) -> str:
    goal = goals[0]
    run = job.client.create_run(
        RunRequest(
            name=job.name,
            method=job.settings.method.name,
            space_id=job.traced.measured.space.id,
            predictor_id=goal.predictor.view.id,
            budget_ms=goal.budget_ms,
            dense_ms=goal.evidence.dense.latency_ms,
            dense_accuracy=finite(job.dense.accuracy),
        )
    )
    return run.id


def _both(first: Progress, second: Progress) -> Progress:
    def progress(event: ProgressEvent) -> None:
        first(event)
        second(event)

    return progress


def _valid(kind: type[Part], given: Iterable[Mapping[str, Any]]) -> Iterator[Part]:
    """Those that the service takes: what a method adds to its history must not end its job."""
    for one in given:
        try:
            yield kind.model_validate(finite(one))
        except ValidationError as error:
            log.warning("This cannot be shown in the service: %s", error)
