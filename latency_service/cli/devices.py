"""``latency-service devices``: machines that measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_service.cli import common
from latency_service.cli.common import DeviceName, Server, Token
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output, Table

if TYPE_CHECKING:
    from latency_service.devices.schemas import AgentView, DeviceView, TargetView
    from latency_service.measurements.schemas import PeerView

devices = common.group("devices", "Machines that measure.")

_COLUMNS: list[Column[DeviceView]] = [
    Column("device", "name"),
    Column("online", "online"),
    Column("quarantined", lambda row: row.quarantine is not None),
    Column("differs from", lambda row: [one.peer_device for one in row.differences], spare=True),
    Column("last seen", "last_seen_at"),
    Column("agents", lambda row: len(row.agents), spare=True),
    Column("runtimes", lambda row: [one.runtime.key for one in row.targets], wraps=20),
]

_TARGET_COLUMNS: list[Column[TargetView]] = [
    Column("target", "id"),
    Column("runtime", lambda row: row.runtime.key),
    Column("current", "is_current"),
    Column("fingerprint", "fingerprint", length=12, spare=True),
    Column("canaries, ms", "canary_ms", wraps=20, spare=True),
    Column("since", "created_at", spare=True),
]

_AGENT_COLUMNS: list[Column[AgentView]] = [
    Column("agent", "id"),
    Column("state", "state"),
    Column("online", "online"),
    Column("last seen", "last_seen_at", spare=True),
    Column("version", "agent_version", spare=True),
    Column("ONNX Runtime", "runtime_version", spare=True),
    Column("providers", "providers", wraps=20, spare=True),
]


_PEER_COLUMNS: list[Column[PeerView]] = [
    Column("device of the same class", "peer_device"),
    Column("differs", "differs"),
    Column("median, %", "median_percent"),
    Column("greatest, %", "greatest_percent"),
    Column("canaries, %", "canary_percent"),
    Column("architectures", "architectures", spare=True),
    Column("fingerprint", "fingerprint", length=12, spare=True),
]


@devices.command("list")
@shows
def list_devices(output: Output, server: Server = DEFAULT_URL, token: Token = None) -> None:
    """All devices, with their agents' state."""
    with common.connect(server, token) as client:
        rows = client.devices()
    output.table(
        rows,
        _COLUMNS,
        "No device yet: start an agent with `latency-service agent --server URL --token "
        "ENROLMENT`.",
    )


@devices.command("show")
@shows
def show_device(
    name: DeviceName, output: Output, server: Server = DEFAULT_URL, token: Token = None
) -> None:
    """One device: its targets, its agents, and how it differs from others of its class.

    CSV has the targets.
    """
    with common.connect(server, token) as client:
        device = client.device(name)
        peers = client.peers(name) if output.is_text else []
    targets = Table(
        rows=device.targets,
        columns=_TARGET_COLUMNS,
        empty="No target yet: it appears with the device's first measurement.",
    )
    agents = Table(rows=device.agents, columns=_AGENT_COLUMNS, empty="No agent has registered.")
    others = Table(rows=peers, columns=_PEER_COLUMNS, empty="")
    fields = {
        **common.fields_of(device, "name", "id", "online", "last_seen_at"),
        **_quarantine(device),
        **_differences(device),
    }
    output.record(device, fields, targets, agents, *([others] if peers else []))


@devices.command("peers")
@shows
def list_peers(
    name: DeviceName, output: Output, server: Server = DEFAULT_URL, token: Token = None
) -> None:
    """How a device differs from others of its class, which have the same fingerprint."""
    with common.connect(server, token) as client:
        rows = client.peers(name)
    output.table(rows, _PEER_COLUMNS, "No other device has the same fingerprint as this one yet.")


@devices.command("quarantine")
@shows
def quarantine_device(
    name: DeviceName,
    reason: Annotated[str, typer.Option(help="Why, for those who ask later.")],
    output: Output,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Give a device no more work until it is released."""
    with common.connect(server, token) as client:
        device = client.quarantine_device(name, reason)
    _show_state(device, output)


@devices.command("release")
@shows
def release_device(
    name: DeviceName, output: Output, server: Server = DEFAULT_URL, token: Token = None
) -> None:
    """End a device's quarantine: it is given work again, at the speed that it has now."""
    with common.connect(server, token) as client:
        device = client.release_device(name)
    _show_state(device, output)


@devices.command("forget")
@shows
def forget_device(
    name: DeviceName,
    output: Output,
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm the deletion, which cannot be undone.")
    ] = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
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
    output.record(
        gone,
        {
            "device": name,
            "measurements deleted": gone.measurements,
            "predictors deleted": gone.predictors,
            "lattices deleted": gone.lattices,
            "predictors of other devices trained again": gone.retrained,
        },
    )


def _show_state(device: DeviceView, output: Output) -> None:
    output.record(device, {**common.fields_of(device, "name", "online"), **_quarantine(device)})


def _quarantine(device: DeviceView) -> dict[str, Any]:
    found = device.quarantine
    if found is None:
        return {"quarantined": False}
    return {"quarantined since": found.since, "because": found.reason, "cure": found.cure}


def _differences(device: DeviceView) -> dict[str, str]:
    found = {}
    for one in device.differences:
        difference = f"{one.median_percent:+.1f} % ({one.architectures} architectures)"
        found[f"differs from {one.peer_device}"] = f"{difference}. {one.cure}"
    return found
