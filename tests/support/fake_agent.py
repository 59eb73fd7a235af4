"""An agent that speaks the protocol and makes its numbers up: latency is a function of the
widths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import httpx2

from latency_service.devices.schemas import Fingerprint, RuntimeConfig
from latency_service.measurements.schemas import ArchitectureResult, Calibration, ResultBody, Round

CANARIES = ["tiny", "half", "full"]
FLOOR_MS = [0.1, 0.4, 0.9]


def quiet_round(at: int, latency_ms: float) -> Round:
    return Round(
        at_seconds=float(at), latency_ms=latency_ms, runs=5, before_ms=FLOOR_MS, after_ms=FLOOR_MS
    )


def cost_ms(widths: Sequence[int]) -> float:
    """A sawtooth, as in docs/design.md, fact 1: a width off the multiples of 4 costs more than the
    next multiple.
    """
    return sum(0.05 + 0.01 * (-(-w // 4) * 4) * (1.3 if w % 4 else 1.0) for w in widths)


class FakeAgent:
    """One agent of one device, over `http` (a client of the service)."""

    def __init__(
        self,
        http: httpx2.Client,
        enrolment: str,
        device: str = "board",
        *,
        max_opset: int = 21,
        facts: dict[str, Any] | None = None,
        cost: Callable[[Sequence[int]], float] = cost_ms,
    ) -> None:
        self.http = http
        self.device = device
        self.cost = cost
        self.facts = {"cpu": "made up"} if facts is None else facts
        self.about = {
            "device": device,
            "agent_version": "0.1.0",
            "runtime_version": "1.31.1",
            "max_opset": max_opset,
            "providers": ["CPUExecutionProvider"],
        }
        answer = http.post("/v1/agents/register", json=self.about, headers=bearer(enrolment))
        assert answer.status_code == 201, answer.text
        self.id = answer.json()["agent_id"]
        self.token = answer.json()["agent_token"]

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self.http.request(method, path, headers=bearer(self.token), **options)

    def claim(self, wait: float = 0) -> dict[str, Any] | None:
        answer = self.request("POST", "/v1/leases", params={"wait": wait})
        assert answer.status_code in (200, 204), answer.text
        return dict(answer.json()) if answer.status_code == 200 else None

    def result(self, lease: dict[str, Any], *, scale: float = 1.0) -> dict[str, Any]:
        """What a real agent would send for this lease."""
        rounds = lease["protocol"]["min_rounds"]
        vectors = [entry["widths"] for entry in lease["architectures"]] or [[10]]
        body = ResultBody(
            fingerprint=Fingerprint(
                runtime=RuntimeConfig.model_validate(lease["runtime"]), facts=self.facts
            ),
            calibration=Calibration(canaries=CANARIES, floor_ms=FLOOR_MS),
            results=[
                ArchitectureResult(
                    index=i,
                    rounds=[
                        quiet_round(k, scale * self.cost(widths) * (1 + 1e-4 * (k % 3)))
                        for k in range(rounds)
                    ],
                    stopped="precise",
                )
                for i, widths in enumerate(vectors)
            ],
            wall_seconds=1.0,
            timed_seconds=0.8,
        )
        return body.model_dump(mode="json")

    def send(self, lease: dict[str, Any], body: dict[str, Any] | None = None) -> httpx2.Response:
        return self.request(
            "PUT", f"/v1/attempts/{lease['attempt_id']}/result", json=body or self.result(lease)
        )

    def fail(self, lease: dict[str, Any], kind: str, message: str = "as told") -> httpx2.Response:
        path = f"/v1/attempts/{lease['attempt_id']}/failure"
        return self.request("PUT", path, json={"kind": kind, "message": message})

    def renew(self, lease: dict[str, Any]) -> httpx2.Response:
        return self.request("POST", f"/v1/attempts/{lease['attempt_id']}/renew")

    def work(self) -> int:
        """Do everything that waits; how many jobs that was."""
        done = 0
        while (lease := self.claim()) is not None:
            answer = self.send(lease)
            assert answer.status_code == 201, answer.text
            done += 1
        return done


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
