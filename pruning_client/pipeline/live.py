"""A job reported to the service while it goes on, so that people can watch it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from latency_service.core.client import Client
from latency_service.core.transport import ApiError
from latency_service.runs.schemas import (
    MAX_ENTRIES,
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
#: Longest message of a failure that the service keeps.
_LONGEST_MESSAGE = 4000

log = logging.getLogger(__name__)


class Recorder:
    """Sends what happens in a job to its run, from a thread of its own.

    The job goes on when the service does not answer; what could not be sent is sent later.
    """

    def __init__(self, client: Client, run_id: str, *, pause_seconds: float) -> None:
        self._run_id = run_id
        self._client = client
        self._pause_seconds = pause_seconds
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_sending, daemon=True)
        self._latest = ProgressEvent(phase="prune", done=0, total=0)
        self._entries: list[HistoryEntry] = []
        self._sent = 0
        self._verifications: list[RunVerification] = []
        self._verifications_sent = 0
        self._told: tuple[str, int, int] | None = None

    @property
    def run_id(self) -> str:
        return self._run_id

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def close(self) -> None:
        """Send the rest, and end the thread."""
        self._closing.set()
        self._thread.join()

    def note(self, event: ProgressEvent) -> None:
        """Take an event of the job; returns at once."""
        with self._lock:
            self._latest = event
            self._entries += [HistoryEntry.model_validate(dict(entry)) for entry in event.entries]

    def note_verifications(self, verifications: Sequence[Verification]) -> None:
        """Take all measurements of files so far; returns at once."""
        found = [RunVerification.model_validate(one.model_dump()) for one in verifications]
        with self._lock:
            self._verifications = found

    def _keep_sending(self) -> None:
        while not self._closing.wait(self._pause_seconds):
            self._send()
        self._send()

    def _send(self) -> None:
        news = self._news()
        if news is None:
            return
        try:
            self._client.report_progress(self.run_id, news)
        except ApiError as error:
            log.debug("progress of run %s was not sent: %s", self.run_id, error)
            return
        self._told = (news.phase, news.done, news.total)
        self._sent += len(news.entries)
        self._verifications_sent = max(self._verifications_sent, len(news.verifications or []))

    def _news(self) -> RunProgress | None:
        """What has not been sent yet; None where there is nothing."""
        with self._lock:
            event = self._latest
            entries = self._entries[self._sent : self._sent + MAX_ENTRIES]
            verifications = self._verifications
        present = (event.phase, event.done, event.total)
        is_new = len(verifications) > self._verifications_sent
        if present == self._told and not entries and not is_new:
            return None
        more: dict[str, Any] = {"verifications": verifications} if is_new else {}
        return RunProgress(
            phase=event.phase,
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
        recorder.close()
        _tell_failure(job.client, run_id, error)
        raise
    recorder.close()


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
            dense_accuracy=job.dense.accuracy,
        )
    )
    return run.id


def _both(first: Progress, second: Progress) -> Progress:
    def progress(event: ProgressEvent) -> None:
        first(event)
        second(event)

    return progress


def _tell_failure(client: Client, run_id: str, error: BaseException) -> None:
    message = f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]
    with contextlib.suppress(ApiError):
        client.fail_run(run_id, message)
