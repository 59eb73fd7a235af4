"""What the system says about a moment: time stolen, other tasks ready to run, throttling. Linux;
silent elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latency_service.agent.measuring.quota import Quota, quotas

#: Share of the time that the hypervisor may take: of a round of a second one tick of 10 ms.
STOLEN_SHARE = 0.01
_STAT = Path("/proc/stat")
_CPU = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The system's counters at one moment; a counter that is not told is 0."""

    #: time that the hypervisor took from the cores since boot, ms (of 10 ms ticks)
    stolen_ms: float
    #: tasks ready to run beyond those that the cores left free by the measuring could take
    contenders: int
    #: how often the cores were throttled by heat since boot
    throttled: int
    #: how often the control groups' quotas halted this process's group
    halted: int = 0


class Witness:
    """Looks at the counters of `cores`, those that are measured on; some 30 microseconds a look.

    Of the tasks that are ready to run, `threads` are this process's own: those of ONNX Runtime spin
    between runs. A task that has a core to itself is no contender: what it does to the memory shows
    in the canaries. On an idle machine of two cores a single one, the system's own housekeeping, is
    there in 5 % of the rounds.
    """

    def __init__(
        self,
        cores: Sequence[int],
        stat: Path = _STAT,
        cpu: Path = _CPU,
        limits: Sequence[Quota] | None = None,
        *,
        threads: int = 1,
    ) -> None:
        self._names = {f"cpu{core}" for core in cores}
        self._threads = threads
        self._stat = stat
        counts = [cpu / f"cpu{core}" / "thermal_throttle" / "core_throttle_count" for core in cores]
        self._throttles = [path for path in counts if path.exists()]
        self._quotas = quotas() if limits is None else limits

    def look(self) -> Moment:
        try:
            lines = self._stat.read_text().splitlines()
        except OSError:
            lines = []
        ticks = 0
        ready = self._threads
        free = 0
        for name, *fields in map(str.split, filter(None, lines)):
            if name in self._names:
                ticks += int(fields[7]) if len(fields) > 7 else 0
            elif name.startswith("cpu") and name != "cpu":
                free += 1
            elif name == "procs_running":
                ready = int(fields[0])
        throttled = sum(int(path.read_text()) for path in self._throttles)
        return Moment(
            stolen_ms=ticks * _tick_ms(),
            contenders=max(0, ready - self._threads - free),
            throttled=throttled,
            halted=sum(quota.halts() for quota in self._quotas),
        )


def disturbance(before: Moment, after: Moment, elapsed_ms: float) -> str | None:
    """Why what ran in `elapsed_ms` between two moments is worthless; nothing when the counters have
    nothing against it.
    """
    if (stolen := after.stolen_ms - before.stolen_ms) > STOLEN_SHARE * elapsed_ms:
        return f"the hypervisor took {stolen:.0f} ms"
    if after.throttled > before.throttled:
        return "the processor was throttled by heat"
    if after.halted > before.halted:
        return "the CPU quota halted it"
    return None


def _tick_ms() -> float:
    return 1000.0 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 10.0
