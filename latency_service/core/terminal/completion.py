"""Completion of ids and names in shells: a running service is asked, for half a second at most.

Nothing is said and nothing is offered where it does not answer: a shell shows no errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: Longest wait for the service: somebody waits at a prompt.
_SECONDS = 0.5
_ROWS = 50

#: Words that a shell offers, each with a remark.
Offers = list[tuple[str, str]]
#: Called by typer with the command's context and the word so far.
Completer = Callable[[Any, str], Offers]


def ids_of(path: str, name: str, *remarks: str, **filters: Any) -> Completer:
    """A completer of the ids or names in a list of the service.

    Args:
        path: path of the list.
        name: field of the list's entries that is offered.
        remarks: fields that tell the entries apart.
        filters: parameters of the request.
    """

    def complete(ctx: Any, incomplete: str) -> Offers:
        try:
            rows = _rows(path, ctx.params, filters)
            offers = [(str(row[name]), _remark(row, remarks)) for row in rows]
        except Exception:  # noqa: BLE001 - a shell shows no errors
            return []
        return [offer for offer in offers if offer[0].startswith(incomplete)]

    return complete


def _rows(path: str, given: Mapping[str, Any], filters: dict[str, Any]) -> list[dict[str, Any]]:
    from latency_service.core.credentials import resolve
    from latency_service.core.transport import Transport

    credentials = resolve(given.get("server"), given.get("token"))
    with Transport(credentials.url, credentials.token, timeout_seconds=_SECONDS) as transport:
        rows = transport.request("GET", path, params=filters).json()
        return list(rows)[:_ROWS]


def _remark(row: Mapping[str, Any], remarks: tuple[str, ...]) -> str:
    return " ".join(str(row[field]) for field in remarks if row.get(field) is not None)


devices = ids_of("/v1/devices", "name")
spaces = ids_of("/v1/spaces", "id", "name")
campaigns = ids_of("/v1/campaigns", "id", "device", "state", "created_at")
predictors = ids_of("/v1/predictors", "id", "device", "created_at")
measurements = ids_of("/v1/measurements", "id", "created_at", limit=_ROWS)
lattices = ids_of("/v1/lattices", "id", "device", "version")
runs = ids_of("/v1/runs", "id", "name", "method", "state")
tokens = ids_of("/v1/tokens", "id", "kind", "name", limit=_ROWS)
