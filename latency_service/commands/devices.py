"""``latency-service devices``: machines that measure."""

from __future__ import annotations

from latency_service.commands import common
from latency_service.commands.common import DEFAULT_URL, Json, Server, Token

devices = common.group("devices", "Machines that measure.")


@devices.command("list")
def list_devices(server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """All devices, with their agents' state."""
    rows = common.fetch(server, token, "/v1/devices")
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        [("device", "name"), ("online", "online"), ("last seen", common.moment("last_seen_at")),
         ("agents", lambda row: len(row["agents"])),
         ("runtimes", lambda row: [common.runtime_key(target) for target in row["targets"]])],
        "No device yet: start an agent with `latency-service agent --server URL --token ENROLMENT`.",
    )  # fmt: skip


@devices.command("show")
def show_device(name: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """One device: its agents and its targets."""
    device = common.fetch(server, token, f"/v1/devices/{common.segment(name)}")
    if as_json:
        return common.print_json(device)
    common.print_fields({key: device[key] for key in ("name", "id", "online", "last_seen_at")})
    common.print_table(
        device["agents"],
        [("agent", "id"), ("state", "state"), ("online", "online"), ("last seen", common.moment("last_seen_at")),
         ("version", "agent_version"), ("ONNX Runtime", "runtime_version"), ("providers", "providers")],
        "No agent has registered.",
    )  # fmt: skip
    return common.print_table(
        device["targets"],
        [("target", "id"), ("runtime", common.runtime_key), ("fingerprint", lambda row: row["fingerprint"][:12]),
         ("canaries, ms", "canary_ms"), ("since", common.moment("created_at"))],
        "No target yet: it appears with the device's first measurement.",
    )  # fmt: skip
