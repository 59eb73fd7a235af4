"""Named points at which a test kills this process, as a power cut would.

Only the environment that the process is started with can choose one: no request, file or argument
can.
"""

from __future__ import annotations

import itertools
import os
import signal
from typing import Literal, get_args

#: ``NAME:N`` kills the process at its N-th pass of the point NAME.
VARIABLE = "LATENCY_SERVICE_KILL_POINT"

#: Points of the service.
ServicePoint = Literal[
    "transaction-before-commit",
    "transaction-after-commit",
    "claimed-before-commit",
    "claimed-after-commit",
    "result-before-commit",
    "result-stored-before-answer",
    "swept-before-commit",
]
#: Points of the agent.
AgentPoint = Literal[
    "registered-before-saving-state",
    "leased-before-measuring",
    "measured-before-spooling",
    "spooled-before-send",
    "delivered-before-removal",
    "removed-after-delivery",
]
KillPoint = ServicePoint | AgentPoint


class _Trap:
    """Kills the process at the chosen pass of one point."""

    def __init__(self, chosen: str) -> None:
        name, _, passes = chosen.partition(":")
        names = (*get_args(ServicePoint), *get_args(AgentPoint))
        if name not in names or not passes.isdigit() or int(passes) < 1:
            raise ValueError(f"{VARIABLE} is NAME:N, with N from 1 and NAME one of {names}")
        self._name = name
        self._last = int(passes)
        self._passes = itertools.count(1)

    def passed(self, name: KillPoint) -> None:
        if name == self._name and next(self._passes) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


_trap = _Trap(os.environ[VARIABLE]) if VARIABLE in os.environ else None


def pass_kill_point(name: KillPoint) -> None:
    """Die here if this process was started to; otherwise do nothing."""
    if _trap is not None:
        _trap.passed(name)
