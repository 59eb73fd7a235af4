"""``latency-service tokens`` and ``latency-service audit``: who may do what, and who did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency_service.auth.schemas import (
    AuditView,
    NewTokenView,
    RotationRequest,
    TokenRequest,
    TokenView,
)
from latency_service.cli import common
from latency_service.cli.common import Json, Server, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.tokens import PREFIXES, TokenKind

tokens = common.group("tokens", "Tokens of users, agents and enrolment: who may do what.")

_TOKEN = "Token"

_COLUMNS: list[common.Column[TokenView]] = [
    ("token", "id"),
    ("kind", "kind"),
    ("name", "name"),
    ("scopes", "scopes"),
    ("created", "created_at"),
    ("expires", "expires_at"),
    ("last used", "last_used_at"),
    ("revoked", "revoked_at"),
]

_AUDIT_COLUMNS: list[common.Column[AuditView]] = [
    ("time", "at"),
    ("action", "action"),
    ("object", "object_id"),
    ("by", "token_name"),
    ("token", "token_id"),
    ("request", "request_id"),
]

Output = Annotated[
    Path | None,
    typer.Option(
        help="Write the secret to this file, readable by its owner only.",
        rich_help_panel=common.OUTPUT,
    ),
]
Limit = Annotated[
    int,
    typer.Option(min=1, max=1000, help="Maximum number of rows.", rich_help_panel=common.FILTER),
]
Offset = Annotated[
    int,
    typer.Option(min=0, help="Number of newest rows to leave out.", rich_help_panel=common.FILTER),
]


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Who or what uses the token.")],
    scope: Annotated[
        list[str],
        typer.Option(
            help="What it allows: read, submit, artifacts:write or admin; may be repeated.",
            rich_help_panel=_TOKEN,
        ),
    ],
    expires_days: Annotated[
        int,
        typer.Option(
            min=0, max=3650, help="Days until it expires; 0: never.", rich_help_panel=_TOKEN
        ),
    ] = 365,
    output: Output = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Make a user's token; its secret is shown once."""
    body = {"name": name, "scopes": scope, "expires_days": expires_days or None}
    request = common.request_of(TokenRequest, body)
    with common.connect(server, token) as client:
        made = client.create_token(request)
    _show_secret(made, output, as_json)


@tokens.command("list")
def list_tokens(
    kind: Annotated[
        str | None,
        typer.Option(
            help="Show only these: user, agent or enrolment.", rich_help_panel=common.FILTER
        ),
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Tokens, newest first, with their last use. The secrets are not shown."""
    chosen = _kind(kind)
    with common.connect(server, token) as client:
        rows = client.tokens(kind=chosen, limit=limit, offset=offset)
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        _COLUMNS,
        "No token but the API token yet: make one with `latency-service tokens create NAME "
        "--scope read`.",
    )


@tokens.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(help="Its id, from `tokens list`.")],
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """End a token. An agent whose token is revoked stops."""
    with common.connect(server, token) as client:
        view = client.revoke_token(token_id)
    if as_json:
        return common.print_json(view)
    return common.print_fields(common.fields_of(view, "id", "kind", "name", "revoked_at"))


@tokens.command("rotate")
def rotate_token(
    token_id: Annotated[str, typer.Argument(help="Its id, from `tokens list`.")],
    grace_seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How long the old secret stays valid.",
            show_default="a day",
            rich_help_panel=_TOKEN,
        ),
    ] = None,
    expires_days: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=3650,
            help="Days until the token expires.",
            show_default="as before",
            rich_help_panel=_TOKEN,
        ),
    ] = None,
    output: Output = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Give a user's token a new secret, shown once. The old one stays valid for a while."""
    body = {"grace_seconds": grace_seconds, "expires_days": expires_days}
    request = common.request_of(RotationRequest, body)
    with common.connect(server, token) as client:
        made = client.rotate_token(token_id, request)
    _show_secret(made, output, as_json)


def audit(
    action: Annotated[
        str | None,
        typer.Option(help="Show only these, such as token.create.", rich_help_panel=common.FILTER),
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Show who did what, newest first."""
    with common.connect(server, token) as client:
        rows = client.audit(action=action, limit=limit, offset=offset)
    if as_json:
        return common.print_json(rows)
    return common.print_table(rows, _AUDIT_COLUMNS, "Nobody has changed anything yet.")


def _kind(kind: str | None) -> TokenKind | None:
    if kind is not None and kind not in PREFIXES:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(PREFIXES)}")
    return kind


def _show_secret(made: NewTokenView, output: Path | None, as_json: bool) -> None:
    if output is not None:
        common.write_output(output, (made.token + "\n").encode(), mode=0o600)
    if as_json:
        return common.print_json(made)
    secret = str(output) if output else made.token
    shown = common.fields_of(made, "id", "name", "scopes", "expires_at")
    if made.previous_valid_until is not None:
        shown["old secret valid until"] = made.previous_valid_until
    return common.print_fields({"secret": secret, **shown})
