"""``latency-service tokens`` and ``latency-service audit``: who may do what, and who did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import SecretFile, Server, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.terminal import completion
from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output
from latency_service.core.tokens import TokenKind

if TYPE_CHECKING:
    from latency_service.auth.schemas import AuditView, NewTokenView, TokenView

tokens = common.group("tokens", "Tokens of users, agents and enrolment: who may do what.")

_TOKEN = "Token"

_COLUMNS: list[Column[TokenView]] = [
    Column("token", "id"),
    Column("kind", "kind"),
    Column("name", "name"),
    Column("scopes", "scopes", wraps=20),
    Column("revoked", "revoked_at"),
    Column("expires", "expires_at", spare=True),
    Column("last used", "last_used_at", spare=True),
    Column("created", "created_at", spare=True),
]

_AUDIT_COLUMNS: list[Column[AuditView]] = [
    Column("time", "at"),
    Column("action", "action"),
    Column("object", "object_id", wraps=20),
    Column("by", "token_name"),
    Column("token", "token_id", spare=True),
    Column("request", "request_id", spare=True),
]

Limit = Annotated[
    int,
    typer.Option(min=1, max=1000, help="Maximum number of rows.", rich_help_panel=common.FILTER),
]
Offset = Annotated[
    int,
    typer.Option(min=0, help="Number of newest rows to leave out.", rich_help_panel=common.FILTER),
]


_TokenId = Annotated[
    str, typer.Argument(help="Its id, from `tokens list`.", autocompletion=completion.tokens)
]


@tokens.command("create")
@shows
def create_token(
    name: Annotated[str, typer.Argument(help="Who or what uses the token.")],
    scope: Annotated[
        list[str],
        typer.Option(
            help="What it allows: read, submit, artifacts:write or admin; may be repeated.",
            rich_help_panel=_TOKEN,
        ),
    ],
    output: Output,
    expires_days: Annotated[
        int,
        typer.Option(
            min=0, max=3650, help="Days until it expires; 0: never.", rich_help_panel=_TOKEN
        ),
    ] = 365,
    file: SecretFile = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Make a user's token; its secret is shown once."""
    from latency_service.auth.schemas import TokenRequest

    body = {"name": name, "scopes": scope, "expires_days": expires_days or None}
    request = common.request_of(TokenRequest, body)
    with common.connect(server, token) as client:
        made = client.create_token(request)
    _show_secret(made, file, output)


@tokens.command("list")
@shows
def list_tokens(
    output: Output,
    kind: Annotated[
        TokenKind | None,
        typer.Option(help="Show only tokens of this kind.", rich_help_panel=common.FILTER),
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Tokens, newest first, with their last use. The secrets are not shown."""
    with common.connect(server, token) as client:
        rows = client.tokens(kind=kind, limit=limit, offset=offset)
    output.table(
        rows,
        _COLUMNS,
        "No token but the API token yet: make one with `latency-service tokens create NAME "
        "--scope read`.",
    )
    common.tell_of_more(output, len(rows), limit, offset)


@tokens.command("revoke")
@shows
def revoke_token(
    token_id: _TokenId,
    output: Output,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """End a token. An agent whose token is revoked stops."""
    with common.connect(server, token) as client:
        view = client.revoke_token(token_id)
    output.record(view, common.fields_of(view, "id", "kind", "name", "revoked_at"))


@tokens.command("rotate")
@shows
def rotate_token(
    token_id: _TokenId,
    output: Output,
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
    file: SecretFile = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Give a user's token a new secret, shown once. The old one stays valid for a while."""
    from latency_service.auth.schemas import RotationRequest

    body = {"grace_seconds": grace_seconds, "expires_days": expires_days}
    request = common.request_of(RotationRequest, body)
    with common.connect(server, token) as client:
        made = client.rotate_token(token_id, request)
    _show_secret(made, file, output)


@shows
def audit(
    output: Output,
    action: Annotated[
        str | None,
        typer.Option(help="Show only these, such as token.create.", rich_help_panel=common.FILTER),
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show who did what, newest first."""
    with common.connect(server, token) as client:
        rows = client.audit(action=action, limit=limit, offset=offset)
    output.table(rows, _AUDIT_COLUMNS, "Nobody has changed anything yet.")
    common.tell_of_more(output, len(rows), limit, offset)


def _show_secret(made: NewTokenView, file: Path | None, output: Output) -> None:
    common.write_secret(file, made.token)
    secret = str(file) if file else made.token
    shown = common.fields_of(made, "id", "name", "scopes", "expires_at")
    if made.previous_valid_until is not None:
        shown["old secret valid until"] = made.previous_valid_until
    output.record(made, {"secret": secret, **shown})
