"""The commands of tokens and of the audit log: what they ask, and what they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.outcomes import Run
from tests.support.scripted_service import ScriptedService

TOKEN: dict[str, Any] = {
    "id": "token-1",
    "kind": "user",
    "name": "ci",
    "scopes": ["read", "submit"],
    "agent_id": None,
    "device": None,
    "created_at": "2025-06-01T00:00:00Z",
    "expires_at": "2026-06-01T00:00:00Z",
    "revoked_at": None,
    "last_used_at": "2025-06-02T03:04:00Z",
}
SECRET = {**TOKEN, "token": "lsu_secret", "previous_valid_until": None}
ENTRY = {
    "id": "entry-1",
    "at": "2025-06-01T00:00:00Z",
    "token_id": "token-1",
    "token_name": "ci",
    "agent_id": None,
    "action": "campaign.create",
    "object_id": "campaign-9",
    "request_id": None,
}


def sent(service: ScriptedService) -> Any:
    return json.loads(service.seen[-1].content)


def test_a_token_is_made_and_its_secret_shown(call: Run, service: ScriptedService) -> None:
    service.on("POST /v1/tokens", SECRET, status=201)
    outcome = call("tokens", "create", "ci", "--scope", "read", "--scope", "submit")
    assert outcome.code == 0
    assert "lsu_secret" in outcome.out
    assert sent(service) == {"name": "ci", "scopes": ["read", "submit"], "expires_days": 365}
    call("tokens", "create", "ci", "--scope", "read", "--expires-days", "0")
    assert sent(service)["expires_days"] is None


def test_the_secret_is_written_to_a_file_that_its_owner_alone_reads(
    call: Run, service: ScriptedService, tmp_path: Path
) -> None:
    service.on("POST /v1/tokens", SECRET, status=201)
    file = tmp_path / "token"
    outcome = call("tokens", "create", "ci", "--scope", "read", "--output", str(file))
    assert file.read_text() == "lsu_secret\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "lsu_secret" not in outcome.out


def test_an_unknown_scope_is_refused_before_anything_is_sent(
    call: Run, service: ScriptedService
) -> None:
    outcome = call("tokens", "create", "ci", "--scope", "everything")
    assert outcome.code == 6
    assert "artifacts:write" in outcome.err
    assert service.seen == []


@pytest.mark.parametrize(("words", "query"), [((), ""), (("--kind", "agent"), "kind=agent&")])
def test_tokens_are_listed_with_their_last_use(
    call: Run, service: ScriptedService, words: tuple[str, ...], query: str
) -> None:
    service.on(f"GET /v1/tokens?{query}limit=100&offset=0", [TOKEN])
    outcome = call("tokens", "list", *words)
    assert outcome.code == 0, outcome.err
    for shown in ("token-1", "read, submit", "2025-06-02 03:04:00"):
        assert shown in outcome.out
    assert call("tokens", "list", *words, "--json").json == [TOKEN]


def test_an_unknown_kind_is_a_usage_error(call: Run, service: ScriptedService) -> None:
    assert call("tokens", "list", "--kind", "robot").code == 2
    assert service.seen == []


def test_a_token_is_revoked(call: Run, service: ScriptedService) -> None:
    revoked = {**TOKEN, "revoked_at": "2025-06-03T00:00:00Z"}
    service.on("DELETE /v1/tokens/token-1", revoked)
    assert "2025-06-03" in call("tokens", "revoke", "token-1").out
    assert call("tokens", "revoke", "token-1", "--json").json == revoked
    assert call("tokens", "revoke", "other").code == 3


def test_a_token_is_rotated_and_says_how_long_the_old_secret_lasts(
    call: Run, service: ScriptedService
) -> None:
    rotated = {**SECRET, "previous_valid_until": "2025-06-02T12:00:00Z"}
    service.on("POST /v1/tokens/token-1/rotate", rotated, status=201)
    outcome = call("tokens", "rotate", "token-1", "--grace-seconds", "60")
    assert "lsu_secret" in outcome.out
    assert "2025-06-02 12:00:00" in outcome.out
    assert sent(service) == {"grace_seconds": 60.0, "expires_days": None}


def test_the_audit_log_is_shown(call: Run, service: ScriptedService) -> None:
    service.on("GET /v1/audit?action=campaign.create&limit=5&offset=0", [ENTRY])
    words = ("audit", "--action", "campaign.create", "--limit", "5")
    outcome = call(*words)
    for shown in ("campaign.create", "campaign-9", "ci"):
        assert shown in outcome.out
    assert call(*words, "--json").json == [ENTRY]
