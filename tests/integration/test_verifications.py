"""Search spaces and delivered files: what is taken, what is refused, and the measurement of the
very file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.engine import Database
from latency_service.model_files import service as model_files_service
from latency_service.model_files.models import ModelFile
from latency_service.spaces import service
from latency_service.spaces.slicing import materialise
from tests.support.settings import SQLITE_ONLY
from tests.support.tiny import tiny_space
from tests.support.verifications import delivered, upload, verify


def test_delivered_file_is_measured_and_then_removed(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    data = delivered()
    sha256 = upload(api, data)
    job = verify(api, space_id, sha256, widths=[12, 8]).json()
    assert (job["kind"], job["state"]) == ("verify", "queued")

    lease = agent.claim()
    assert lease is not None
    assert (lease["kind"], lease["space_id"], lease["architectures"]) == ("verify", space_id, [])
    assert lease["model_sha256"] == sha256
    assert agent.request("GET", f"/v1/models/{sha256}").content == data
    assert agent.send(lease).status_code == 201

    after = api.get(f"/v1/jobs/{job['id']}").json()
    assert after["state"] == "done"
    [measurement_id] = after["result"]["measurement_ids"]
    shown = api.get(f"/v1/measurements/{measurement_id}").json()
    assert (shown["model_sha256"], shown["widths"], shown["counted"]) == (sha256, [12, 8], True)
    assert api.get(f"/v1/models/{sha256}").status_code == 404


def test_file_stays_while_another_verification_needs_it(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    sha256 = upload(api, delivered())
    first, second = (verify(api, space_id, sha256).json()["id"] for _ in range(2))
    lease = agent.claim()
    assert lease is not None
    agent.send(lease)
    assert api.get(f"/v1/models/{sha256}").status_code == 200
    agent.work()
    assert api.get(f"/v1/models/{sha256}").status_code == 404
    assert {api.get(f"/v1/jobs/{job}").json()["state"] for job in (first, second)} == {"done"}


def test_file_stays_for_whoever_uploaded_it_too_and_has_not_asked_yet(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    data = delivered()
    sha256 = upload(api, data)
    assert api.put(f"/v1/models/{sha256}", content=data).status_code == 200
    for left in (200, 404):
        assert verify(api, space_id, sha256).status_code == 201
        agent.work()
        assert api.get(f"/v1/models/{sha256}").status_code == left


def test_first_uploads_at_the_same_moment(database: Database) -> None:
    data = delivered()
    sha256 = hashlib.sha256(data).hexdigest()

    def store(session: Session) -> tuple[bool, bool]:
        file = ModelFile(sha256=sha256, size_bytes=len(data), opset=17, blob=data)
        return model_files_service.store_model(session, file), service.store(
            session, service.describe(tiny_space())
        )[1]

    def again() -> tuple[bool, bool]:
        with database.write() as session:
            return store(session)

    with ThreadPoolExecutor(1) as other:
        with database.write() as session:
            assert store(session) == (True, True)
            second = other.submit(again)
            assert wait([second], timeout=0.5).not_done, (
                "it must wait for the end of this transaction"
            )
        assert second.result(30) == (False, False)
    with database.read() as session:
        assert model_files_service.get_model(session, sha256).uploads == 2


def test_failed_verification_removes_its_file_too(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    sha256 = upload(api, delivered())
    job = verify(api, space_id, sha256).json()
    lease = agent.claim()
    assert lease is not None
    agent.fail(lease, "device_oom", "out of memory")
    assert api.get(f"/v1/jobs/{job['id']}").json()["failure"]["kind"] == "device_oom"
    assert api.get(f"/v1/models/{sha256}").status_code == 404


def test_verification_of_what_is_not_there(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    assert verify(api, space_id, "0" * 64).status_code == 404
    sha256 = upload(api, delivered())
    assert verify(api, "abc", sha256).status_code == 404
    wrong = verify(api, space_id, sha256, widths=[12, 99])
    assert wrong.status_code == 422
    assert "width 99 of group 'conv1'" in wrong.json()["error"]["message"]


def test_file_that_needs_a_newer_runtime(api: TestClient, agent: FakeAgent, space_id: str) -> None:
    model = ModelProto.FromString(delivered())
    model.opset_import[0].version = 22
    answer = verify(api, space_id, upload(api, model.SerializeToString()))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "version_mismatch")


def weightless(model: ModelProto) -> None:
    model.CopyFrom(materialise(tiny_space(), (12, 8)))


def hidden_external(model: ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "value")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(
        helper.make_node("Constant", [], ["constant"], name="constant", value=tensor)
    )


def custom_domain(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node.append(helper.make_node("Steal", ["input"], ["stolen"], domain="com.example"))


def no_graph(model: ModelProto) -> None:
    model.ClearField("graph")


@SQLITE_ONLY
@pytest.mark.parametrize("spoil", [weightless, hidden_external, custom_domain, no_graph])
def test_files_that_are_refused(api: TestClient, spoil: Callable[[ModelProto], None]) -> None:
    model = ModelProto.FromString(delivered())
    spoil(model)
    data = model.SerializeToString()
    answer = api.put(f"/v1/models/{hashlib.sha256(data).hexdigest()}", content=data)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_model"), (
        spoil.__name__
    )
    assert answer.json()["error"]["cure"]


def test_file_that_is_not_what_its_address_says(api: TestClient) -> None:
    for data in (delivered(), b"", b"no onnx"):
        answer = api.put(f"/v1/models/{'0' * 64}", content=data)
        assert answer.status_code == 422
        assert "SHA-256" in answer.json()["error"]["message"]


def test_space_is_stored_once_and_found_by_its_beginning(api: TestClient) -> None:
    space = tiny_space()
    first, again = (api.post("/v1/spaces", content=space.data) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    shown = api.get(f"/v1/spaces/{space.id[:9]}").json()
    assert shown == first.json() == again.json()
    assert (shown["id"], shown["name"], shown["opset"]) == (space.id, "tiny", 17)
    assert [group["width"] for group in shown["groups"]] == [16, 16]
    assert (shown["parameters"], shown["macs"]) == (
        9 * (3 * 16 + 16 * 16 + 16 * 8),
        64 * 9 * (3 * 16 + 16 * 16 + 16 * 8),
    )
    assert shown["inputs"] == {"input": ["batch", 3, 8, 8]}
    assert api.get(f"/v1/spaces/{space.id}/graph.onnx").content == space.data


@SQLITE_ONLY
@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x08\x01" * 10])
def test_files_that_are_no_space(api: TestClient, data: bytes) -> None:
    answer = api.post("/v1/spaces", content=data)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_space")
    assert answer.json()["error"]["cure"]


@SQLITE_ONLY
@pytest.mark.usefixtures("agent")
def test_widths_out_of_range_are_no_fault_of_the_space(api: TestClient, space_id: str) -> None:
    body = {"space_id": space_id, "device": "board", "around": [8, 999], "count": 20}
    answer = api.post("/v1/campaigns", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "bad_request")
    assert "width 999" in error["message"]


def test_runs_are_recorded(api: TestClient, space_id: str) -> None:
    body = {
        "name": "first",
        "method": "w-gates",
        "space_id": space_id,
        "predictor_id": None,
        "budget_ms": 1.2,
        "report": {"met": True},
    }
    made = api.post("/v1/runs", json=body)
    assert made.status_code == 201
    assert api.get("/v1/runs").json() == [made.json()]
    assert api.get(f"/v1/runs/{made.json()['id']}").json()["report"] == {"met": True}
    assert api.post("/v1/runs", json={**body, "space_id": "0" * 64}).status_code == 404
    assert api.post("/v1/runs", json={**body, "predictor_id": "none"}).status_code == 404
