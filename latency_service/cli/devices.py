"""``latency-service devices``: machines that measure."""

from __future__ import annotations

from typing import Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import Json, Server, Token
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.devices.schemas import AgentView, DeviceView, TargetView
from latency_service.measurements.schemas import PeerView

devices = common.group("devices", "Machines that measure.")

_COLUMNS: list[common.Column[DeviceView]] = [
    ("device", "name"),
    ("online", "online"),
    ("quarantined", lambda row: row.quarantine is not None),
    ("differs from", lambda row: [one.peer_device for one in row.differences]),
    ("last seen", "last_seen_at"),
    ("agents", lambda row: len(row.agents)),
    ("runtimes", lambda row: [target.runtime.key for target in row.targets]),
]

_AGENT_COLUMNS: list[common.Column[AgentView]] = [
    ("agent", "id"),
    ("state", "state"),
    ("online", "online"),
    ("last seen", "last_seen_at"),
    ("version", "agent_version"),
    ("ONNX Runtime", "runtime_version"),
    ("providers", "providers"),
]

_TARGET_COLUMNS: list[common.Column[TargetView]] = [
    ("target", "id"),
    ("runtime", lambda row: row.runtime.key),
    ("fingerprint", lambda row: row.fingerprint[:12]),
    ("current", "is_current"),
    ("canaries, ms", "canary_ms"),
    ("since", "created_at"),
]


_PEER_COLUMNS: list[common.Column[PeerView]] = [
    ("device of the same class", "peer_device"),
    ("fingerprint", lambda row: row.fingerprint[:12]),
    ("canaries, %", "canary_percent"),
    ("architectures", "architectures"),
    ("median, %", "median_percent"),
    ("greatest, %", "greatest_percent"),
    ("differs", "differs"),
]


@devices.command("list")
def list_devices(server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """All devices, with their agents' state."""
    with common.connect(server, token) as client:
        rows = client.devices()
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        _COLUMNS,
        "No device yet: start an agent with `latency-service agent --server URL --token "
        "ENROLMENT`.",
    )


@devices.command("show")
def show_device(
    name: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """One device: its agents, its targets, and how it differs from others of its class."""
    with common.connect(server, token) as client:
        device = client.device(name)
        peers = [] if as_json else client.peers(name)
    if as_json:
        return common.print_json(device)
    common.print_fields(common.fields_of(device, "name", "id", "online", "last_seen_at"))
    _print_quarantine(device)
    for one in device.differences:
        difference = f"{one.median_percent:+.1f} % ({one.architectures} architectures)"
        common.print_fields({f"differs from {one.peer_device}": difference, "cure": one.cure})
    common.print_table(
        device.agents,
        _AGENT_COLUMNS,
        "No agent has registered.",
    )
    common.print_table(
        device.targets,
        _TARGET_COLUMNS,
        "No target yet: it appears with the device's first measurement.",
    )
    if peers:
        common.print_table(peers, _PEER_COLUMNS, "")
    return None


@devices.command("peers")
def list_peers(
    name: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """How a device differs from others of its class, which have the same fingerprint."""
    with common.connect(server, token) as client:
        rows = client.peers(name)
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows, _PEER_COLUMNS, "No other device has the same fingerprint as this one yet."
    )


@devices.command("quarantine")
def quarantine_device(
    name: str,
    reason: Annotated[str, typer.Option(help="Why, for those who ask later.")],
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Give a device no more work until it is released."""
    with common.connect(server, token) as client:
        device = client.quarantine_device(name, reason)
    return _show_state(device, as_json)


@devices.command("release")
def release_device(
    name: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """End a device's quarantine: it is given work again, at the speed that it has now."""
    with common.connect(server, token) as client:
        device = client.release_device(name)
    return _show_state(device, as_json)


@devices.command("forget")
def forget_device(
    name: str,
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm the deletion, which cannot be undone.")
    ] = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Delete everything measured on a device, with the predictors and lattices made from it. The
    device stays.
    """
    if not yes:
        raise common.CommandError(
            f"This deletes every measurement, predictor and lattice of {name!r} for good.",
            "Confirm it with --yes.",
            exit_code=exit_codes.USAGE,
            code="not_confirmed",
        )
    with common.connect(server, token) as client:
        gone = client.forget_device(name)
    if as_json:
        return common.print_json(gone)
    return common.print_fields(
        {
            "device": name,
            "measurements deleted": gone.measurements,
            "predictors deleted": gone.predictors,
            "lattices deleted": gone.lattices,
            "predictors of other devices trained again": gone.retrained,
        }
    )


def _show_state(device: DeviceView, as_json: bool) -> None:
    if as_json:
        return common.print_json(device)
    common.print_fields(common.fields_of(device, "name", "online"))
    return _print_quarantine(device)


def _print_quarantine(device: DeviceView) -> None:
    found = device.quarantine
    if found is None:
        return common.print_fields({"quarantined": False})
    return common.print_fields(
        {"quarantined since": found.since, "because": found.reason, "cure": found.cure}
    )
