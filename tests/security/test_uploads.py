"""Uploads that are too large, that are no networks, and names that would be paths."""

from __future__ import annotations

import hashlib
import socket
from urllib.parse import quote, urlsplit

import pytest
from onnx import TensorProto, helper

from latency_service.core.transport import ApiError, Transport
from latency_service.spaces.slicing import MANIFEST_KEY
from tests.support.houses import MAX_JSON_BYTES, MAX_MODEL_BYTES, MAX_SPACE_BYTES, House
from tests.support.processes import API_TOKEN
from tests.support.tiny import tiny_space

PATHS = [
    "../../etc/passwd",
    "..",
    "/etc/passwd",
    "%2e%2e%2f",
    "a\x00b",
    "a/../b",
    "'; DROP TABLE jobs; --",
    "\u202e",
    "x" * 4000,
]
NOUNS = ["spaces", "devices", "lattices", "campaigns", "jobs", "measurements", "predictors", "runs"]


def refusal(transport: Transport, method: str, path: str, content: bytes) -> ApiError:
    with pytest.raises(ApiError) as error:
        transport.request(
            method, path, content=content, headers={"content-type": "application/octet-stream"}
        )
    return error.value


def model_path(content: bytes) -> str:
    return f"/v1/models/{hashlib.sha256(content).hexdigest()}"


def external_model() -> bytes:
    """A network whose weight lies in a file of the machine that opens it."""
    weight = TensorProto(
        name="w", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL, dims=[4]
    )
    weight.external_data.add(key="location", value="../../../../etc/passwd")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight]
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)]
    ).SerializeToString()
    return content


def test_too_large_is_refused_with_413(house: House) -> None:
    space = bytes(MAX_SPACE_BYTES + 1)
    model = bytes(MAX_MODEL_BYTES + 1)
    assert refusal(house.service.api, "POST", "/v1/spaces", space).status == 413
    assert refusal(house.service.api, "PUT", model_path(model), model).status == 413
    with pytest.raises(ApiError) as error:
        house.service.post("/v1/enrolments", {"device": "x" * MAX_JSON_BYTES})
    assert error.value.status == 413


def test_an_endless_upload_is_cut_off(house: House) -> None:
    """A body of unannounced length is refused when it passes the limit, not when it ends."""
    address = urlsplit(house.service.url)
    head = (
        f"POST /v1/spaces HTTP/1.1\r\nhost: {address.netloc}\r\nauthorization: Bearer "
        f"{API_TOKEN}\r\n"
        "transfer-encoding: chunked\r\n\r\n"
    )
    chunk = b"1000\r\n" + bytes(0x1000) + b"\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(head.encode())
        for _ in range(MAX_SPACE_BYTES // 0x1000 + 2):
            connection.sendall(chunk)
        assert connection.recv(64).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"not a network", b"\xff" * 1000, b"\x08\x07" * 500, b"\x80PNG"]
)
def test_garbage_is_no_space_and_no_model(content: bytes, house: House) -> None:
    for error in (
        refusal(house.service.api, "POST", "/v1/spaces", content),
        refusal(house.service.api, "PUT", model_path(content), content),
    ):
        assert error.status in (400, 422)
        assert error.message
        assert error.cure


def test_a_manifest_that_lies_is_refused(house: House) -> None:
    good = tiny_space()
    for wrong in (
        '{"format": 1}',
        "[]",
        "{",
        good.manifest.model_dump_json().replace('"w0"', '"w9"'),
    ):
        model = type(good.model)()
        model.CopyFrom(good.model)
        entry = next(entry for entry in model.metadata_props if entry.key == MANIFEST_KEY)
        entry.value = wrong
        assert (
            refusal(house.service.api, "POST", "/v1/spaces", model.SerializeToString()).status
            == 422
        )


def test_a_model_under_another_files_hash_is_refused(house: House) -> None:
    content = b"some bytes"
    assert refusal(house.service.api, "PUT", f"/v1/models/{'0' * 64}", content).status in (400, 422)


def test_a_model_that_points_at_files_of_the_machine_is_refused(house: House) -> None:
    content = external_model()
    error = refusal(house.service.api, "PUT", model_path(content), content)
    assert error.status == 422


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("noun", NOUNS)
def test_names_that_would_be_paths_are_not_found(noun: str, name: str, house: House) -> None:
    with pytest.raises(ApiError) as error:
        house.service.api.request("GET", f"/v1/{noun}/{quote(name, safe='')}")
    assert error.value.status in (400, 404, 422)
    assert "root:" not in error.value.message


@pytest.mark.parametrize("name", ["../../etc/passwd", "..%2f..%2f", "A" * 64, "a" * 63])
def test_content_addresses_that_are_none(name: str, house: House) -> None:
    for path in (
        f"/v1/models/{quote(name, safe='')}",
        f"/v1/spaces/{quote(name, safe='')}/graph.onnx",
    ):
        with pytest.raises(ApiError) as error:
            house.agent.request("GET", path)
        assert error.value.status in (404, 422)


@pytest.mark.parametrize("device", ["", "../x", "a/b", "a b", "<script>", "x" * 81, "-rf"])
def test_devices_have_plain_names(device: str, house: House) -> None:
    request = {
        "device": device,
        "agent_version": "0",
        "runtime_version": "1.20.0",
        "max_opset": 20,
        "providers": ["CPUExecutionProvider"],
    }
    with pytest.raises(ApiError) as error:
        house.enrolment.request("POST", "/v1/agents/register", json=request)
    assert error.value.status == 422
