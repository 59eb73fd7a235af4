"""``latency-service devices``: machines that measure."""

from __future__ import annotations

from typing import Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import Json, Server, Token
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.devices.schemas import AgentView, DeviceView, TargetView

devices = common.group("devices", "Machines that measure.")

_COLUMNS: list[common.Column[DeviceView]] = [
    ("device", "name"),
    ("online", "online"),
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
    """One device: its agents and its targets."""
    with common.connect(server, token) as client:
        device = client.device(name)
    if as_json:
        return common.print_json(device)
    common.print_fields(common.fields_of(device, "name", "id", "online", "last_seen_at"))
    common.print_table(
        device.agents,
        _AGENT_COLUMNS,
        "No agent has registered.",
    )
    return common.print_table(
        device.targets,
        _TARGET_COLUMNS,
        "No target yet: it appears with the device's first measurement.",
    )


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
        }
    )
