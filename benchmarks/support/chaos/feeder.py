"""Asks for work during a run, and looks at what was measured, as a user of the service would."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.support.chaos.history import History, Requested, Seen
from latency_service.auth.schemas import EnrolmentView
from latency_service.campaigns.schemas import CampaignRequest
from latency_service.core.client import Client
from latency_service.core.transport import ApiError, Transport
from latency_service.lattices.probes import FULL, probe_space
from latency_service.measurements.schemas import Protocol

#: Campaigns that a device has to work on at any time.
CAMPAIGNS = 2
#: Architectures of a campaign, and of a job.
ARCHITECTURES = 24
BATCH = 2
PAUSE_SECONDS = 0.3
#: Longest wait for a request in whose time nothing else happens.
IMPATIENT_SECONDS = 1.0
#: Measurements in one answer of the service.
PAGE = 1000
_PROTOCOL = Protocol(min_rounds=3, max_rounds=4, round_ms=0.5, budget_seconds=2.0)


class Feeder:
    """A thread that keeps every device busy until it is stopped.

    Args:
        urls: addresses of the replicas; each request goes to one of them.
        devices: names of the devices; they may appear later.
    """

    def __init__(
        self, urls: Sequence[str], token: str, devices: Sequence[str], history: Path, *, seed: int
    ) -> None:
        self._devices = devices
        self._random = random.Random(seed)
        self._history = History(history)
        self._campaigns: list[str] = []
        self._open = ExitStack()
        self._clients = [self._open.enter_context(Client(url, token, tries=1)) for url in urls]
        self._impatient = [
            self._open.enter_context(Transport(url, token, timeout_seconds=IMPATIENT_SECONDS))
            for url in urls
        ]
        #: Refusals by their status; 0 where nobody answered.
        self.refusals: Counter[int] = Counter()
        #: What ended the thread before it was stopped.
        self.failure: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask for nothing more."""
        self._stop.set()
        self._thread.join()

    def close(self) -> None:
        self.stop()
        self._open.close()
        self._history.close()

    def is_idle(self) -> bool:
        """Whether the service has no campaign that runs; False when it does not answer."""
        try:
            return not self._client().campaigns(state="running")
        except ApiError:
            return False

    def enrolment(self, device: str) -> str | None:
        """A new enrolment token for a device; None when the service does not answer soon."""
        http = self._random.choice(self._impatient)
        try:
            answer = http.request("POST", "/v1/enrolments", json={"device": device})
        except ApiError:
            return None
        return EnrolmentView.model_validate_json(answer.content).token

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                self._feed()
                self._look()
            except ApiError as error:  # killed or restarted meanwhile
                self.refusals[error.status] += 1
            except Exception as error:  # noqa: BLE001 - raised by the thread that waits
                self.failure = error
                return

    def _feed(self) -> None:
        running = [campaign.device for campaign in self._client().campaigns(state="running")]
        for device in self._devices:
            if running.count(device) < CAMPAIGNS:
                self._request(device)

    def _request(self, device: str) -> None:
        client = self._client()
        space = client.create_space(probe_space("linear"))
        chosen = self._random.sample(range(1, FULL + 1), ARCHITECTURES)
        request = CampaignRequest(
            space_id=space.id,
            device=device,
            purpose="measure",
            widths=[[width] for width in chosen],
            batch_size=BATCH,
            protocol=_PROTOCOL,
        )
        campaign = client.create_campaign(request)
        self._history.write(
            Requested(campaign_id=campaign.id, widths=[[width] for width in chosen])
        )
        self._campaigns.append(campaign.id)

    def _look(self) -> None:
        if not self._campaigns:
            return
        campaign_id = self._random.choice(self._campaigns)
        rows = self._client().measurements_page(limit=PAGE, campaign_id=campaign_id)
        self._history.write(Seen(campaign_id=campaign_id, measurement_ids=[row.id for row in rows]))

    def _client(self) -> Client:
        return self._random.choice(self._clients)
