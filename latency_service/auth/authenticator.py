"""Who is asking: the holders of bearer tokens, looked up in the database and remembered briefly."""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from typing import Literal

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from latency_service.auth import repository
from latency_service.auth.service import token_sha256
from latency_service.core.errors import Unauthorised
from latency_service.db.engine import Database
from latency_service.db.migrate import check_migrated
from latency_service.settings import Settings

Role = Literal["user", "agent", "enrolment"]
#: What tokens allow. Users' tokens have some of the first four; `admin` includes the other three.
#: Agents' and enrolment tokens have the scope of their role only.
Scope = Literal["read", "submit", "artifacts:write", "admin", "agent", "enrolment"]
USER_SCOPES: tuple[Scope, ...] = ("read", "submit", "artifacts:write", "admin")

_CURE = (
    "Use a user's token (LATENCY_SERVICE_TOKEN; `latency-service up` prints where its own is kept)."
)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Whoever holds a token."""

    role: Role
    #: What the token allows.
    scopes: frozenset[Scope]
    #: Identifies the token in lists, logs and limits; it is not secret.
    token_id: str
    #: The token's name, for people.
    name: str
    #: Id of the agent, for role `agent`.
    agent_id: str | None = None


#: The holder of the service's own API token.
OPERATOR = Principal(
    role="user", scopes=frozenset(USER_SCOPES), token_id="api-token", name="API token"
)


class Authenticator:
    """Checks tokens; remembers those known for a few seconds, so that hot paths do not ask the
    database.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._ttl_seconds = settings.token_cache_seconds
        self._api_sha256 = token_sha256(settings.token)
        self._known: dict[str, tuple[Principal, float]] = {}
        self._migrated = False

    async def ensure_migrated(self) -> None:
        """Return at once when the database was found ready before.

        Raises:
            NotMigrated: it is not.
        """
        if not self._migrated:
            await run_in_threadpool(check_migrated, self._database.engine)
            self._migrated = True

    async def principal(self, request: Request) -> Principal:
        """The holder of the request's token.

        Raises:
            Unauthorised: no token, or one that is unknown or has expired.
        """
        return await self.principal_of(bearer_token(request.headers.get("authorization", "")))

    async def principal_of(self, token: str) -> Principal:
        """The holder of a token.

        Raises:
            Unauthorised: the token is unknown or has expired.
        """
        sha256 = token_sha256(token)
        if hmac.compare_digest(sha256, self._api_sha256):
            return OPERATOR
        principal, until = self._known.get(sha256, (None, 0.0))
        if principal is None or time.monotonic() > until:
            principal = await run_in_threadpool(self._look_up, sha256)
        if principal is None:
            raise Unauthorised("The token is not known to this service, or has expired.", _CURE)
        return principal

    def _look_up(self, sha256: str) -> Principal | None:
        with self._database.read() as session:
            token = repository.valid_token(session, sha256)
        if token is None:
            self._known.pop(sha256, None)
            return None
        role: Role = "agent" if token.role == "agent" else "enrolment"
        principal = Principal(
            role=role,
            scopes=frozenset([role]),
            token_id=sha256,
            name=role,
            agent_id=token.agent_id,
        )
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[sha256] = (principal, time.monotonic() + self._ttl_seconds)
        return principal


def bearer_token(header: str) -> str:
    """The token of an `Authorization` header.

    Raises:
        Unauthorised: the header holds none.
    """
    scheme, _, sent = header.partition(" ")
    token = sent.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorised(
            "The request has no token.", f"Send `Authorization: Bearer TOKEN`. {_CURE}"
        )
    return token
