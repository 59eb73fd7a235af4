"""Whether an agent that registers runs on the machine that a device's name stands for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Facts that two machines of one kind share, and two agents of one machine always.
HARDWARE = ("machine", "system", "board", "processor", "processor_family", "physical_cores")
#: Where an agent's facts keep what `latency_service.agent.hardware` found, and which process
#: registered last.
IDS = "hardware_ids"
INSTANCE = "instance"


def other_ids(known: Mapping[str, Any], claimed: Mapping[str, Any]) -> str | None:
    """How two agents' ids show that they run on different machines; None where they do not, or are
    not told.
    """
    before = set(known.get(IDS) or ())
    now = set(claimed.get(IDS) or ())
    if before and now and not before & now:
        return "its serial number and network hardware are others"
    return None


def other_machine(known: Mapping[str, Any], claimed: Mapping[str, Any]) -> str | None:
    """How two agents' facts and ids show that they run on different machines; None where nothing
    does. A common id outweighs every fact: a machine may be moved or refitted.
    """
    if set(known.get(IDS) or ()) & set(claimed.get(IDS) or ()):
        return None
    differing = [
        f"{name} {claimed[name]!r} instead of {known[name]!r}"
        for name in HARDWARE
        if known.get(name) is not None
        and claimed.get(name) is not None
        and known[name] != claimed[name]
    ]
    return ", ".join(differing) or other_ids(known, claimed)
