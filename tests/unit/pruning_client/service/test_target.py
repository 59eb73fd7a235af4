"""Which device and runtime configuration a target stands for."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from latency_service.core.client import Client
from latency_service.devices.schemas import RuntimeConfig
from pruning_client.errors import Missing, UsageError
from pruning_client.methods.w_gates import WGates
from pruning_client.pipeline.prune import job_settings
from pruning_client.service.lookup import PredictorQuery, find_device, find_predictor
from pruning_client.service.target import DeviceTarget, Target, as_targets
from tests.support import analytic, views
from tests.support.predictor_service import PredictorService

RUNTIMES = [RuntimeConfig(), RuntimeConfig(intra_threads=2), RuntimeConfig(precision="int8")]


def device(**changes: Any) -> dict[str, Any]:
    """A device on which every one of RUNTIMES has been measured."""
    plain = views.device()
    (known,) = plain["targets"]
    targets = [
        {**known, "id": f"target-{number}", "runtime": runtime.model_dump()}
        for number, runtime in enumerate(RUNTIMES)
    ]
    return {**plain, "targets": targets, "online": True, **changes}


@pytest.fixture
def known(service: PredictorService) -> PredictorService:
    service.on("GET /v1/devices", [device()])
    return service


def test_the_runtime_is_the_targets_own_however_many_the_device_knows(
    known: PredictorService, client: Client
) -> None:
    only = find_device(client, None)
    assert [target.runtime for target in only.targets] == RUNTIMES
    for target, runtime in [
        (Target(), RuntimeConfig()),
        (Target(threads=2), RuntimeConfig(intra_threads=2)),
        (Target(batch=8, precision="int8"), RuntimeConfig(batch=8, precision="int8")),
    ]:
        assert target.runtime == runtime
        assert DeviceTarget(device=only, runtime=target.runtime).key == f"board {runtime.key}"


@pytest.mark.parametrize("number", range(len(RUNTIMES)))
def test_the_predictor_is_the_one_of_the_targets_runtime(
    known: PredictorService, client: Client, number: int
) -> None:
    made = analytic.view(analytic.sidecar_of([8, 8], [[4, 8], [4, 8]]))
    stored = [
        made.model_copy(update={"id": f"p{at}", "target_id": f"target-{at}", "runtime": runtime})
        for at, runtime in enumerate(RUNTIMES)
    ]
    # a service that ignores the filter must not mislead the client
    known.on("GET /v1/predictors", [view.model_dump(mode="json") for view in stored])
    query = PredictorQuery(
        space_id=made.space_id,
        device="board",
        runtime=RUNTIMES[number],
        target_id=f"target-{number}",
    )
    assert find_predictor(client, query) == stored[number]
    asked = parse_qs(urlsplit(known.seen[-1].target).query)
    assert asked["runtime"] == [RUNTIMES[number].key]
    assert asked["device"] == ["board"]


def test_one_device_in_two_runtimes_is_two_targets() -> None:
    one = Target(device="board")
    two = Target(device="board", threads=2)
    assert as_targets(["board", two, one]) == (one, two)
    settings = job_settings([one, two], WGates(), None, None, None, None)
    assert settings.targets == (one, two)


def test_without_a_name_several_devices_are_ambiguous(
    service: PredictorService, client: Client
) -> None:
    service.on("GET /v1/devices", [device(), device(name="phone")])
    with pytest.raises(UsageError, match=r"several devices: board, phone\.") as caught:
        find_device(client, None)
    assert "--target" in caught.value.cure
    assert find_device(client, "phone").name == "phone"


def test_a_device_that_is_unknown_or_offline(service: PredictorService, client: Client) -> None:
    service.on("GET /v1/devices", [device(online=False)])
    with pytest.raises(Missing, match="no device 'phone'; known: board"):
        find_device(client, "phone")
    with pytest.raises(Missing, match="'board' is offline") as caught:
        find_device(client, None)
    assert "latency-service up" in caught.value.cure
