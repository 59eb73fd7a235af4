"""An agent that may have 512 MB of private memory, and so may each of its measuring processes.

The limit is RLIMIT_DATA, which processes inherit: a control group's would need root.
"""

from __future__ import annotations

import sys

import pytest

from latency_service.devices.schemas import RuntimeConfig
from latency_service.spaces.slicing import SearchSpace
from tests.support.processes import Stage, migrate, serve
from tests.support.simulated import Network
from tests.support.tiny import campaign_of, tiny_space

SMALL = 512 << 20
_LIMITED = (
    "import os, resource, sys; "
    f"resource.setrlimit(resource.RLIMIT_DATA, ({SMALL}, {SMALL})); "
    "os.execv(sys.executable, [sys.executable, '-m', 'latency_service', *sys.argv[1:]])"
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is Linux's")


@pytest.mark.long
def test_a_network_that_is_too_large_is_a_typed_failure_and_work_goes_on(stage: Stage) -> None:
    migrate(stage.folder, "")
    service = serve(stage, "")
    service.agent(command=(sys.executable, "-c", _LIMITED))
    tiny, large = tiny_space(), _large_space()
    for space in (tiny, large):
        service.api.request("POST", "/v1/spaces", content=space.data)

    def ended(request: dict[str, object]) -> dict[str, object]:
        campaign = service.post("/v1/campaigns", request)["id"]

        def view() -> dict[str, object] | None:
            found: dict[str, object] = service.get(f"/v1/campaigns/{campaign}")
            return found if found["state"] != "running" else None

        return dict(stage.eventually(view, "the campaign ends", 90.0))

    runtime = RuntimeConfig(batch=1024).model_dump()
    greedy = {"space_id": large.id, "widths": [large.full_widths], "runtime": runtime}
    failed = ended(campaign_of(tiny, 1) | greedy)
    assert failed["state"] == "failed"
    assert "device_oom" in str(failed["failure"])
    assert ended(campaign_of(tiny, 4))["state"] == "done"


def _large_space() -> SearchSpace:
    """One layer, whose output for 1024 images takes 1 GB."""
    network = Network(pixels=64)
    return network.space(network.conv(network.start, network.group(64)))
