"""Who is asking: bearer tokens and what each role may do.

Three roles: the API token may do everything but the agent protocol; an agent's token may do that
protocol and fetch spaces and models; an enrolment token may register an agent.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from latency_service.auth import repository
from latency_service.auth.service import token_sha256
from latency_service.core.errors import Forbidden, Unauthorised
from latency_service.db.engine import Database
from latency_service.db.migrate import check_migrated
from latency_service.settings import Settings

Role = Literal["api", "agent", "enrolment"]

_CURES: dict[str, str] = {
    "api": (
        "Use the API token (LATENCY_SERVICE_TOKEN; `latency-service up` prints where it is kept)."
    ),
    "agent": (
        "This belongs to the agent protocol: start `latency-service agent` instead of calling it."
    ),
    "enrolment": (
        "Make an enrolment token with `POST /v1/enrolments`, or let the registered "
        "agent use its own."
    ),
}

_bearer = HTTPBearer(
    auto_error=False, description="the API token, an agent's token or an enrolment token"
)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Whoever holds a token."""

    role: Role
    #: Id of the agent, for role `agent`.
    agent_id: str | None = None
    #: SHA-256 of the token.
    sha256: str = ""


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
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        token = sent.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthorised(
                "The request has no token.", f"Send `Authorization: Bearer TOKEN`. {_CURES['api']}"
            )
        return await self.principal_of(token)

    async def principal_of(self, token: str) -> Principal:
        """The holder of a token.

        Raises:
            Unauthorised: it is unknown or has expired.
        """
        sha256 = token_sha256(token)
        if hmac.compare_digest(sha256, self._api_sha256):
            return Principal(role="api", sha256=sha256)
        principal, until = self._known.get(sha256, (None, 0.0))
        if principal is None or time.monotonic() > until:
            principal = await run_in_threadpool(self._look_up, sha256)
        if principal is None:
            raise Unauthorised(
                "The token is not known to this service, or has expired.", _CURES["api"]
            )
        return principal

    def holder_of(self, sha256: str) -> Principal | None:
        """The holder of the token with this hash, as it is now; None when it is not valid any
        more. Asks the database.
        """
        if hmac.compare_digest(sha256, self._api_sha256):
            return Principal(role="api", sha256=sha256)
        return self._look_up(sha256)

    def _look_up(self, sha256: str) -> Principal | None:
        with self._database.read() as session:
            token = repository.valid_token(session, sha256)
        if token is None:
            self._known.pop(sha256, None)
            return None
        role: Role = "agent" if token.role == "agent" else "enrolment"
        principal = Principal(role=role, agent_id=token.agent_id, sha256=sha256)
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[sha256] = (principal, time.monotonic() + self._ttl_seconds)
        return principal


def check_role(principal: Principal, *roles: Role) -> None:
    """Raise `Forbidden` unless the principal has one of `roles`."""
    if principal.role not in roles:
        raise Forbidden(f"An {principal.role} token may not do this.", _CURES[roles[0]])


def require(*roles: Role) -> Callable[[Request], Coroutine[Any, Any, Principal]]:
    """A dependency that lets only `roles` through, and nobody while the database is not
    migrated.
    """

    async def dependency(request: Request) -> Principal:
        authenticator: Authenticator = request.app.state.authenticator
        await authenticator.ensure_migrated()
        principal = await authenticator.principal(request)
        check_role(principal, *roles)
        return principal

    return dependency


ApiOnly = [Security(_bearer), Depends(require("api"))]
ApiOrAgent = [Security(_bearer), Depends(require("api", "agent"))]
AgentToken = Annotated[Principal, Depends(require("agent"))]
RegistrationToken = Annotated[Principal, Depends(require("enrolment", "agent"))]
WithBearer = [Security(_bearer)]
