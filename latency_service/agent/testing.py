"""A fake agent for tests: it speaks the job protocol and computes latencies from the widths.

Nothing is measured. Use it to test a service, or a client of one, without a device::

    agent = FakeAgent(http, enrolment_token)  # `http`: an httpx2 client with the service's address
    agent.work()  # does every job that waits
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import httpx2

from latency_service.devices.schemas import Fingerprint, RuntimeConfig
from latency_service.measurements.schemas import ArchitectureResult, Calibration, ResultBody, Round

CANARIES = ["tiny", "half", "full"]
#: Floor of each canary, ms.
FLOOR_MS = [0.1, 0.4, 0.9]

#: Latency in ms of an architecture, given its widths [G].
LatencyOf = Callable[[Sequence[int]], float]


class UnexpectedResponse(AssertionError):
    """The service answered a request of the fake agent with a status that it did not expect."""


class FakeAgent:
    """One agent of one device, over an HTTP client of the service.

    Args:
        http: a client whose base address is the service's; its owner closes it.
        enrolment: an enrolment token of the service.
        device: name under which the agent registers.
        max_opset: newest ONNX opset that it claims to support.
        facts: facts of its fingerprint; agents with the same facts are the same target.
        cost: latency in ms as a function of the widths.

    Raises:
        UnexpectedResponse: the service refuses the registration.
    """

    def __init__(
        self,
        http: httpx2.Client,
        enrolment: str,
        device: str = "board",
        *,
        max_opset: int = 21,
        facts: dict[str, Any] | None = None,
        cost: LatencyOf | None = None,
    ) -> None:
        self.http = http
        self.device = device
        self.cost = cost or cost_ms
        self.facts = {"cpu": "made up"} if facts is None else facts
        self.about = {
            "device": device,
            "agent_version": "0.1.0",
            "runtime_version": "1.31.1",
            "max_opset": max_opset,
            "providers": ["CPUExecutionProvider"],
        }
        self.id, self.token = self._register(enrolment)

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """A request with this agent's token, and `headers` where the options have them."""
        headers = {**bearer(self.token), **options.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **options)

    def claim(self, wait: float = 0) -> dict[str, Any] | None:
        """The next lease, or None when no job waits.

        Raises:
            UnexpectedResponse: the service answers with anything but 200 or 204.
        """
        answer = self.request("POST", "/v1/leases", params={"wait": wait})
        _expect(answer, 200, 204)
        return dict(answer.json()) if answer.status_code == 200 else None

    def result(self, lease: dict[str, Any], *, scale: float = 1.0) -> dict[str, Any]:
        """The body that a real agent would send for `lease`; `scale` multiplies its latencies."""
        rounds = lease["protocol"]["min_rounds"]
        architectures = [entry["widths"] for entry in lease["architectures"]] or [[10]]
        body = ResultBody(
            fingerprint=self._fingerprint(lease),
            calibration=Calibration(canaries=CANARIES, floor_ms=FLOOR_MS),
            results=[
                _architecture_result(index, rounds, scale * self.cost(widths))
                for index, widths in enumerate(architectures)
            ],
            wall_seconds=1.0,
            timed_seconds=0.8,
        )
        return body.model_dump(mode="json")

    def send(self, lease: dict[str, Any], body: dict[str, Any] | None = None) -> httpx2.Response:
        """Hand in `body`, by default `result(lease)`."""
        return self.request("PUT", _attempt(lease, "result"), json=body or self.result(lease))

    def fail(self, lease: dict[str, Any], kind: str, message: str = "as told") -> httpx2.Response:
        """Report a failure of the given kind."""
        return self.request(
            "PUT", _attempt(lease, "failure"), json={"kind": kind, "message": message}
        )

    def renew(self, lease: dict[str, Any]) -> httpx2.Response:
        """Renew the lease."""
        return self.request("POST", _attempt(lease, "renew"))

    def work(self) -> int:
        """Do every job that waits, and return their number.

        Raises:
            UnexpectedResponse: the service refuses a result.
        """
        done = 0
        while (lease := self.claim()) is not None:
            _expect(self.send(lease), 201)
            done += 1
        return done

    def _register(self, enrolment: str) -> tuple[str, str]:
        answer = self.http.post("/v1/agents/register", json=self.about, headers=bearer(enrolment))
        _expect(answer, 201)
        body = answer.json()
        return body["agent_id"], body["agent_token"]

    def _fingerprint(self, lease: dict[str, Any]) -> Fingerprint:
        runtime = RuntimeConfig.model_validate(lease["runtime"])
        return Fingerprint(runtime=runtime, facts=self.facts)


def cost_ms(widths: Sequence[int]) -> float:
    """Latency as a sawtooth over the widths (docs/design.md, fact 1).

    A width that is not a multiple of 4 costs more than the next multiple of 4.
    """
    return sum(0.05 + 0.01 * (-(-w // 4) * 4) * (1.3 if w % 4 else 1.0) for w in widths)


def quiet_round(at: int, latency_ms: float) -> Round:
    """A round in which every canary was at its floor."""
    return Round(
        at_seconds=float(at), latency_ms=latency_ms, runs=5, before_ms=FLOOR_MS, after_ms=FLOOR_MS
    )


def bearer(token: str) -> dict[str, str]:
    """The header that authorises a request with `token`."""
    return {"authorization": f"Bearer {token}"}


def _architecture_result(index: int, rounds: int, latency_ms: float) -> ArchitectureResult:
    return ArchitectureResult(
        index=index,
        rounds=[quiet_round(k, latency_ms * (1 + 1e-4 * (k % 3))) for k in range(rounds)],
        stopped="precise",
    )


def _attempt(lease: dict[str, Any], action: str) -> str:
    return f"/v1/attempts/{lease['attempt_id']}/{action}"


def _expect(answer: httpx2.Response, *statuses: int) -> None:
    if answer.status_code not in statuses:
        raise UnexpectedResponse(f"{answer.status_code} instead of {statuses}: {answer.text}")
