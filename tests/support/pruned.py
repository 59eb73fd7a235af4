"""Pruning runs of a service, as a client would have recorded them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.support.sites import Site

DENSE = {"latency_ms": 1.0, "lower_ms": 0.99, "upper_ms": 1.01, "accuracy": 92.0}
BUDGET_MS = 0.7


def add_run(
    site: Site,
    space_id: str,
    predictor_id: str | None,
    *,
    method: str,
    latency_ms: float,
    accuracy: float,
) -> str:
    """A run that has ended; its id."""
    body = {**_begun(space_id, predictor_id, method), "report": None}
    run = str(site.post("/v1/runs", body)["id"])
    end_run(site, run, space_id, latency_ms, accuracy)
    return run


def end_run(site: Site, run: str, space_id: str, latency_ms: float, accuracy: float) -> None:
    """The run has a result."""
    report = {"report": _report(site, space_id, latency_ms, accuracy)}
    answer = site.http.put(f"/v1/runs/{run}/report", json=report)
    assert answer.is_success, answer.text


def begin_run(site: Site, space_id: str, predictor_id: str | None) -> str:
    """A run that goes on; its id."""
    return str(site.post("/v1/runs", _begun(space_id, predictor_id, "w-gates"))["id"])


def tell_progress(site: Site, run: str, groups: Sequence[int], *, done: int, total: int) -> None:
    """The first `done` of `total` steps of training."""
    body = {
        "phase": "prune",
        "done": done,
        "total": total,
        "first": 0,
        "entries": _history(groups, done, total),
        "verifications": _verifications(groups),
    }
    answer = site.http.put(f"/v1/runs/{run}/progress", json=body)
    assert answer.is_success, answer.text


def full_widths(site: Site, space_id: str) -> list[int]:
    return [group["width"] for group in site.get(f"/v1/spaces/{space_id}")["groups"]]


def _begun(space_id: str, predictor_id: str | None, method: str) -> dict[str, Any]:
    return {
        "name": "SmallNet",
        "method": method,
        "space_id": space_id,
        "predictor_id": predictor_id,
        "budget_ms": BUDGET_MS,
        "dense_ms": DENSE["latency_ms"],
        "dense_accuracy": DENSE["accuracy"],
    }


def _report(site: Site, space_id: str, latency_ms: float, accuracy: float) -> dict[str, Any]:
    groups = site.get(f"/v1/spaces/{space_id}")["groups"]
    full = [group["width"] for group in groups]
    pruned = {
        "latency_ms": latency_ms,
        "lower_ms": 0.99 * latency_ms,
        "upper_ms": 1.01 * latency_ms,
        "accuracy": accuracy,
        "parameters": 60_000,
        "macs": 4_000_000,
    }
    return {
        "outcome": "met" if latency_ms <= BUDGET_MS else "not met",
        "over_percent": 100 * (latency_ms / BUDGET_MS - 1),
        "device": "board",
        "fingerprint": "f" * 64,
        "seed": 0,
        "command": "prune(model, data, budget='70%')",
        "dense": DENSE,
        "pruned": pruned,
        "widths": [
            {"name": group["name"], "before": group["width"], "after": group["width"] * 5 // 8}
            for group in groups
        ],
        "layers": [
            {"name": f"{group['name']}.weight", "before_ms": 0.2, "after_ms": 0.11 + 0.01 * at}
            for at, group in enumerate(groups)
        ],
        "history": _history(full, 60, 60),
        "verifications": _verifications(full),
        "timings_seconds": {"prune": 41.2, "fine-tune": 63.0},
        "versions": {"torch": "2.6", "onnxruntime": "1.31.1"},
        "config": {"method": {"epochs": 5}, "seed": 0},
    }


def _history(full: Sequence[int], done: int, total: int) -> list[dict[str, Any]]:
    return [_entry(full, step, total) for step in range(1, done + 1)]


def _entry(full: Sequence[int], step: int, total: int) -> dict[str, Any]:
    share = 1 - 0.375 * min(1.0, 2 * step / total)
    entry = {
        "phase": "prune",
        "step": step,
        "loss": 2.0 * 0.95**step,
        "latency_ms": 1.0 - 0.32 * min(1.0, 2 * step / total),
        "widths": [round(width * share) for width in full],
    }
    return entry | ({"accuracy": 85 + step / 10} if step % 10 == 0 else {})


def _verifications(full: Sequence[int]) -> list[dict[str, Any]]:
    stages = (("dense", 1.0, 1.01), ("structure", 0.69, 0.68), ("delivered", 0.68, 0.68))
    return [
        {
            "stage": stage,
            "widths": list(full) if stage == "dense" else [width * 5 // 8 for width in full],
            "predicted_ms": predicted,
            "latency_ms": measured,
            "lower_ms": 0.99 * measured,
            "upper_ms": 1.01 * measured,
            "verdict": "ok",
            "measurement_id": f"measurement-{stage}",
            "device": "board",
        }
        for stage, measured, predicted in stages
    ]
