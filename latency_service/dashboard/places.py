"""On what a number was measured: shown beside every latency."""

from __future__ import annotations

from pydantic import BaseModel, Field

from latency_service.devices.models import Target
from latency_service.devices.schemas import RuntimeConfig


class Place(BaseModel):
    """A target in words."""

    target_id: str
    device: str
    runtime: RuntimeConfig
    fingerprint: str
    is_current: bool = Field(description="false: the device has changed since")

    @property
    def text(self) -> str:
        """Device and runtime, such as ``board · CPU · 1 thread · batch 1 · fp32``."""
        return f"{self.device} · {runtime_text(self.runtime)}"


def place_of(target: Target) -> Place:
    return Place(
        target_id=target.id,
        device=target.device.name,
        runtime=RuntimeConfig.model_validate(target.runtime),
        fingerprint=target.fingerprint,
        is_current=target.is_current,
    )


def runtime_text(runtime: RuntimeConfig) -> str:
    """A runtime configuration in words."""
    threads = runtime.intra_threads
    count = "1 thread" if threads == 1 else f"{threads} threads"
    provider = runtime.provider.removesuffix("ExecutionProvider")
    return f"{provider} · {count} · batch {runtime.batch} · {runtime.precision}"


def ranges_text(widths: list[int]) -> str:
    """Ascending widths in short, such as ``4–64 by 4, 72``."""
    parts = []
    at = 0
    while at < len(widths):
        end = _run_end(widths, at)
        parts.append(_run_text(widths[at : end + 1]))
        at = end + 1
    return ", ".join(parts)


def _run_end(widths: list[int], start: int) -> int:
    """Index of the last width that follows the first with the same step; three at least."""
    if start + 2 >= len(widths):
        return start
    step = widths[start + 1] - widths[start]
    end = start + 1
    while end + 1 < len(widths) and widths[end + 1] - widths[end] == step:
        end += 1
    return end if end - start >= 2 else start


def _run_text(run: list[int]) -> str:
    if len(run) == 1:
        return str(run[0])
    step = run[1] - run[0]
    by = "" if step == 1 else f" by {step}"
    return f"{run[0]}–{run[-1]}{by}"
