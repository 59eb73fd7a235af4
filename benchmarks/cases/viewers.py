"""Whether people who watch a campaign disturb the measurements of the device beside the service.

`latency-service up` on this machine: service, agent and dashboard share its cores. Campaigns over
the same architectures follow one another, half of them with twenty live views of their page open
(server-sent events). What viewers change is compared with how far two campaigns without viewers
differ in the same minutes. The browsers themselves run elsewhere in practice and are not imitated:
one process reads all twenty streams.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.support import watching
from benchmarks.support.harness import Outcome, at_least, at_most
from benchmarks.support.networks import resnet20
from benchmarks.support.subjects import subjects
from latency_service.campaigns.schemas import CampaignRequest
from latency_service.measurements.schemas import Protocol
from pruning_client.service.embedded import Embedded, embedded_service

Floats = npt.NDArray[np.float64]

VIEWERS = 20
#: Campaigns without viewers (False) and with them: each kind is as early as the other.
ORDER = (False, True, True, False, True, False, False, True)
#: Largest shift of the level that viewers may cause, per cent.
MOST_SHIFT = 0.5
_DRAWS = 2000


class Visit(NamedTuple):
    """One campaign: latency of each architecture, ms, and the messages each viewer got."""

    latency_ms: Floats
    messages: list[int]


def run(quick: bool) -> Outcome:
    count, order = (3, ORDER[:4]) if quick else (20, ORDER)
    protocol = Protocol(max_rounds=15) if quick else Protocol()
    space, widths = subjects(resnet20, count)
    with tempfile.TemporaryDirectory() as folder, embedded_service(Path(folder) / "up") as service:
        service.client.create_space(space)
        request = CampaignRequest(
            space_id=space.id,
            device=service.device,
            purpose="measure",
            widths=widths,
            protocol=protocol,
        )
        _visit(service, request, watched=False)  # calibrates
        token = (Path(folder) / "up" / "token").read_text().strip()
        visits = [_visit(service, request, watched=watched, token=token) for watched in order]
    return _outcome(visits, order, widths)


def _visit(service: Embedded, request: CampaignRequest, *, watched: bool, token: str = "") -> Visit:
    campaign = service.client.create_campaign(request)
    address = f"{service.url}/campaigns/{campaign.id}/events"
    messages: list[int] = []
    with _viewers(address, token, messages) if watched else nullcontext():
        service.client.wait_for_campaign(campaign.id, timeout_seconds=1800)
    found = service.client.measurements(campaign_id=campaign.id)
    by_widths = {tuple(one.widths or ()): one.summary.latency_ms for one in found}
    assert request.widths is not None
    assert len(found) == len(request.widths)
    return Visit(np.array([by_widths[tuple(each)] for each in request.widths]), messages)


@contextmanager
def _viewers(address: str, token: str, messages: list[int]) -> Iterator[None]:
    """Twenty viewers; their messages are put into `messages` at the end."""
    command = [sys.executable, "-m", watching.__name__, address, str(VIEWERS)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(token + "\n")
        process.stdin.flush()
        yield
        output, _ = process.communicate(timeout=120)
    told = json.loads(output)
    if told["lost"]:
        raise RuntimeError(f"{told['lost']} of {VIEWERS} viewers lost their stream")
    messages += told["messages"]


def _outcome(visits: list[Visit], order: tuple[bool, ...], widths: list[list[int]]) -> Outcome:
    alone = [visit.latency_ms for visit, watched in zip(visits, order, strict=True) if not watched]
    beside = [visit.latency_ms for visit, watched in zip(visits, order, strict=True) if watched]
    noise = differences_between(alone)
    differences = differences_between(beside)
    shift = 100 * (np.exp(_mean_log(beside) - _mean_log(alone)) - 1)
    messages = [each for visit in visits for each in visit.messages]
    return Outcome(
        bars=[
            at_least("fewest messages that a viewer got", min(messages), 2, "messages"),
            at_most(
                "two campaigns with viewers: median difference "
                "(limit: upper bound without viewers)",
                float(np.median(differences)),
                _upper_bound(noise),
                "%",
            ),
            at_most(
                "level with viewers against without", abs(float(shift.mean())), MOST_SHIFT, "%"
            ),
        ],
        data={
            "widths": widths,
            "viewers": VIEWERS,
            "shift_percent": shift.tolist(),
            "campaigns": [
                {
                    "watched": watched,
                    "latency_ms": visit.latency_ms.tolist(),
                    "messages": visit.messages,
                }
                for visit, watched in zip(visits, order, strict=True)
            ],
        },
        rows=[
            {
                "campaigns": name,
                "median difference": f"{np.median(found):.2f} %",
                "90th percentile": f"{np.percentile(found, 90):.2f} %",
            }
            for name, found in (("without viewers", noise), (f"with {VIEWERS}", differences))
        ],
    )


def _mean_log(visits: list[Floats]) -> Floats:
    return np.asarray(np.log(visits).mean(axis=0))


def differences_between(visits: list[Floats]) -> Floats:
    """Relative differences of each architecture between all pairs of campaigns, per cent."""
    pairs = [(a, b) for index, a in enumerate(visits) for b in visits[index + 1 :]]
    return np.concatenate([200 * np.abs(a - b) / (a + b) for a, b in pairs])


def _upper_bound(differences: Floats) -> float:
    """Upper end of the 95 % interval of the median, by bootstrap."""
    draws = np.random.default_rng(0).choice(differences, (_DRAWS, len(differences)))
    return float(np.percentile(np.median(draws, axis=1), 97.5))
