"""The job protocol as an agent speaks it: one typed method per endpoint, without retries."""

from __future__ import annotations

import gzip
import hashlib
import json
import re

from pydantic import ValidationError

from latency_service.core.transport import Transport
from latency_service.devices.schemas import (
    HeartbeatRequest,
    HeartbeatResponse,
    RegisterRequest,
    RegisterResponse,
)
from latency_service.jobs.schemas import ATTEMPT_ID, Failure, Lease, ResultAnswer
from latency_service.measurements.schemas import ResultBody

#: Beyond the seconds that a long poll asks the service to wait.
_POLL_MARGIN_SECONDS = 15.0
_DOWNLOAD_SECONDS = 300.0


class WrongContent(Exception):
    """The bytes that came do not have the hash that was asked for."""


class UnusableLease(Exception):
    """A lease that does not fit its schema.

    Args:
        attempt_id: of the attempt, where the lease has a proper one.
        cause: what is wrong with it, in one sentence.
    """

    def __init__(self, attempt_id: str | None, cause: str) -> None:
        super().__init__(cause)
        self.attempt_id = attempt_id
        self.cause = cause


class AgentClient:
    """The service as an agent sees it. Every method raises `transport.ApiError`; thread-safe."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def register(self, request: RegisterRequest) -> RegisterResponse:
        answer = self._http.request("POST", "/v1/agents/register", json=request.model_dump())
        return RegisterResponse.model_validate_json(answer.content)

    def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse:
        answer = self._http.request("POST", "/v1/agents/me/heartbeat", json=request.model_dump())
        return HeartbeatResponse.model_validate_json(answer.content)

    def lease(self, wait_seconds: float) -> Lease | None:
        """The next attempt at a job, or None when there is none within `wait_seconds`.

        Raises:
            UnusableLease: what came does not fit the schema.
        """
        answer = self._http.request(
            "POST",
            "/v1/leases",
            params={"wait": wait_seconds},
            timeout_seconds=wait_seconds + _POLL_MARGIN_SECONDS,
        )
        return None if answer.status_code == 204 else _lease(answer.content)

    def renew(self, attempt_id: str) -> None:
        """Keep the lease. `ApiError` of status 409: it is lost; 410: the job was cancelled."""
        self._http.request("POST", f"/v1/attempts/{attempt_id}/renew")

    def result(self, attempt_id: str, body: bytes) -> ResultAnswer:
        """Hand in a `ResultBody` as JSON; the same bytes may be sent any number of times.

        They travel compressed: proxies often take no more than 1 MB.
        """
        answer = self._http.request(
            "PUT",
            f"/v1/attempts/{attempt_id}/result",
            content=gzip.compress(body, mtime=0),
            headers={"content-type": "application/json", "content-encoding": "gzip"},
        )
        return ResultAnswer.model_validate_json(answer.content)

    def failure(
        self, attempt_id: str, failure: Failure, *, timeout_seconds: float | None = None
    ) -> None:
        self._http.request(
            "PUT",
            f"/v1/attempts/{attempt_id}/failure",
            json=failure.model_dump(),
            timeout_seconds=timeout_seconds,
        )

    def space(self, sha256: str) -> bytes:
        """A search space's file.

        Raises:
            WrongContent: its hash is not `sha256`.
        """
        return self._fetch(f"/v1/spaces/{sha256}/graph.onnx", sha256)

    def model(self, sha256: str) -> bytes:
        """A delivered file to verify. Raises as `space` does."""
        return self._fetch(f"/v1/models/{sha256}", sha256)

    def _fetch(self, path: str, sha256: str) -> bytes:
        data: bytes = self._http.request("GET", path, timeout_seconds=_DOWNLOAD_SECONDS).content
        if hashlib.sha256(data).hexdigest() != sha256:
            raise WrongContent(
                f"{path} brought other bytes than its hash says: nothing of it was run"
            )
        return data


def _lease(body: bytes) -> Lease:
    try:
        return Lease.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UnusableLease(_attempt_id(body), f"{place}: {first['msg']}") from error


def _attempt_id(body: bytes) -> str | None:
    """The attempt that a lease is about, however wrong the rest of it is."""
    try:
        found = json.loads(body)["attempt_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    proper = isinstance(found, str) and re.fullmatch(ATTEMPT_ID, found)
    return str(found) if proper else None


def encode(result: ResultBody) -> bytes:
    """The bytes of a result: kept and sent unchanged, since their digest tells a repetition from
    another result.
    """
    return result.model_dump_json().encode()
