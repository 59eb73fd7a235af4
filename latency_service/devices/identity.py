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


#: Prefix of each kind of id, and how two machines without a common one differ. Serial numbers
#: decide first: an adapter may be moved from one board to another.
_KINDS = (
    ("serial:", "its serial number is another"),
    ("network:", "its network hardware is another"),
)


def other_ids(known: Mapping[str, Any], claimed: Mapping[str, Any]) -> str | None:
    """How two agents' ids show that they run on different machines; None where they do not, or are
    not told.
    """
    return _told(known, claimed)[1]


def _told(known: Mapping[str, Any], claimed: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Whether two agents' ids are those of one machine, and how they differ if not; by the first
    kind of id that both have.
    """
    for kind, difference in _KINDS:
        before, now = (
            {one for one in facts.get(IDS) or () if one.startswith(kind)}
            for facts in (known, claimed)
        )
        if before and now:
            return (True, None) if before & now else (False, difference)
    return False, None


def other_machine(known: Mapping[str, Any], claimed: Mapping[str, Any]) -> str | None:
    """How two agents' facts and ids show that they run on different machines; None where nothing
    does. A common id outweighs every fact: a machine may be moved or refitted.
    """
    is_same, difference = _told(known, claimed)
    if is_same:
        return None
    differing = [
        f"{name} {claimed[name]!r} instead of {known[name]!r}"
        for name in HARDWARE
        if known.get(name) is not None
        and claimed.get(name) is not None
        and known[name] != claimed[name]
    ]
    return ", ".join(differing) or difference
