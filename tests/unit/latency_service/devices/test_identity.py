from __future__ import annotations

from typing import Any

import pytest

from latency_service.devices.identity import other_ids, other_machine

PI = {"machine": "aarch64", "processor": "Cortex-A72", "physical_cores": 4}
SERVER = {"machine": "x86_64", "processor": "EPYC", "physical_cores": 64}


def board(facts: dict[str, Any], *ids: str) -> dict[str, Any]:
    return {**facts, "hardware_ids": list(ids)}


@pytest.mark.parametrize(
    ("known", "claimed", "words"),
    [
        (board(PI), board(PI), None),
        (board(PI), board(SERVER), "processor 'EPYC' instead of 'Cortex-A72'"),
        (board(PI, "serial:a"), board(PI, "serial:b"), "serial number"),
        (board(PI, "network:a"), board(PI, "network:b"), "network hardware"),
        (
            board(PI, "serial:a", "network:adapter"),
            board(PI, "serial:b", "network:adapter"),
            "serial number",
        ),
        (board(PI, "serial:a", "network:b"), board(SERVER, "serial:a", "network:c"), None),
        (board(PI, "network:a", "network:b"), board(PI, "network:b", "network:c"), None),
        (board(PI, "network:a"), board(SERVER, "network:a"), None),
        (board(PI, "network:a"), board(PI), None),
        (board({}), board(SERVER, "network:a"), None),
        ({}, {}, None),
    ],
    ids=[
        "twins without ids",
        "other hardware",
        "twins",
        "twins by their network hardware",
        "twins that share an adapter",
        "another network card and processor",
        "another network card",
        "moved to another processor",
        "ids not told",
        "nothing known",
        "nothing at all",
    ],
)
def test_machines_are_told_apart(
    known: dict[str, Any], claimed: dict[str, Any], words: str | None
) -> None:
    found = other_machine(known, claimed)
    assert (found is None) == (words is None)
    assert (words or "") in (found or "")


def test_a_machine_that_only_changed_its_hardware_keeps_its_token() -> None:
    """Without ids nothing tells a moved virtual machine from a copy: it is a changed device."""
    assert other_ids(board(PI), board(SERVER)) is None
    assert other_ids(board(PI, "network:a"), board(SERVER, "network:b")) is not None
