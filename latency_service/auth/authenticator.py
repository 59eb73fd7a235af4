"""Who is asking: the holders of bearer tokens, looked up in the database and remembered briefly."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, cast

import structlog
from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from latency_service.auth import keys, repository
from latency_service.auth.repository import Found
from latency_service.core import tokens
from latency_service.core.errors import Unauthorised
from latency_service.core.tokens import TokenKind
from latency_service.db.engine import Database
from latency_service.db.migrate import check_migrated
from latency_service.settings import Settings
from latency_service.web.refusals import Refusals

#: What tokens allow. Users' tokens have some of the first four; `admin` includes the other three.
#: Agents' and enrolment tokens have the scope of their role only.
Scope = Literal["read", "submit", "artifacts:write", "admin", "agent", "enrolment"]
USER_SCOPES: tuple[Scope, ...] = ("read", "submit", "artifacts:write", "admin")

#: Tokens remembered at once.
_MOST_KNOWN = 10_000
_CURE = (
    "Use a user's token (LATENCY_SERVICE_TOKEN; `latency-service up` prints where its own is kept)."
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Whoever holds a token."""

    role: TokenKind
    #: What the token allows.
    scopes: frozenset[Scope]
    #: Identifies the token in lists, logs and limits; it is not secret.
    token_id: str
    #: The token's name, for people.
    name: str
    #: Names the secret that was sent, by its stored hash: what a browser's session keeps of it.
    reference: str
    #: Id of the agent, for role `agent`.
    agent_id: str | None = None


class Authenticator:
    """Checks tokens; remembers those known for a few seconds, so that hot paths do not ask the
    database. Its coroutines are for one event loop, everything else is thread-safe.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        #: Comes before every look-up of a token, a session or a code.
        self.refusals = Refusals(settings)
        self._api_hash = _hash(settings.token)
        self._operator = _operator(self._api_hash)
        #: Principals by the hash of what they sent, and until when they are remembered.
        self._known: dict[bytes, tuple[Principal, float]] = {}
        #: Counts `forget`: what was looked up before it is not remembered after it.
        self._forgotten = 0
        self._migrated = False
        # uses are recorded beside the requests, which must not wait for a writer's lock
        self._recorder = _make_recorder()
        self._recording: set[str] = set()

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
            Unauthorised: no token, or one that is not valid.
            TooManyRequests: its address has sent too many of these.
        """
        try:
            token = bearer_token(request.headers.get("authorization", ""))
        except Unauthorised:
            self.refusals.count(request.scope)
            raise
        return await self.principal_of(token, request)

    async def principal_of(self, token: str, request: Request) -> Principal:
        """The holder of a token that a request brings.

        Raises:
            Unauthorised: the token is mistyped, unknown, revoked or expired. A mistyped one is told
                without asking the database.
            TooManyRequests: the request's address has sent too many of these.
        """
        sent = _hash(token)
        if hmac.compare_digest(sent, self._api_hash):
            return self._operator
        principal, until = self._known.get(sent, (None, 0.0))
        if principal is not None and self._clock() <= until:
            return principal
        with self.refusals.limited(request.scope, sent):
            if not tokens.is_well_formed(token):
                raise Unauthorised("The token is not one of this service, or is mistyped.", _CURE)
            return await run_in_threadpool(self._look_up, token, sent)

    def holder_of(self, reference: str) -> Principal | None:
        """The holder of a secret (`Principal.reference`) with the rights of its token as they are
        now; None once the secret or its token is not valid any more. Asks the database.
        """
        if hmac.compare_digest(reference.encode(), self._operator.reference.encode()):
            return self._operator
        with self._database.read() as session:
            found = repository.find(session, reference)
        if found is None or found.expired or found.token.revoked_at is not None:
            return None
        return _principal(found)

    def forget(self, token_id: str) -> None:
        """Look the token up again at its next use; call it after a change has been committed."""
        self._forgotten += 1
        for sent, (principal, _) in list(self._known.items()):
            if principal.token_id == token_id:
                self._known.pop(sent, None)

    def close(self) -> None:
        """Finish recording a use, and drop those that wait."""
        self._recorder.shutdown(cancel_futures=True)
        self._recorder = _make_recorder()
        self._recording.clear()

    def _look_up(self, token: str, sent: bytes) -> Principal:
        before = self._forgotten
        found = self._find(token)
        if found is None:
            raise Unauthorised("The token is not known to this service.", _CURE)
        _check_valid(found)
        if found.unrecorded:
            self._record_use(found.token.id)
        principal = _principal(found)
        self._remember(sent, principal, before)
        return principal

    def _find(self, token: str) -> Found | None:
        with self._database.read() as session:
            key = keys.known_key(session, self._settings)
            if key is None:
                return None
            digest = keys.digest_of(key, token)
            found = repository.find(session, digest)
        return found if found and hmac.compare_digest(found.digest, digest) else None

    def _remember(self, sent: bytes, principal: Principal, before: int) -> None:
        if before != self._forgotten:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        until = self._clock() + self._settings.token_cache_seconds
        self._known[sent] = (principal, until)

    def _record_use(self, token_id: str) -> None:
        if token_id not in self._recording:
            self._recording.add(token_id)
            self._recorder.submit(self._write_use, token_id)

    def _write_use(self, token_id: str) -> None:
        try:
            with self._database.write() as session:
                repository.record_use(session, token_id)
        except SQLAlchemyError as error:
            log.warning("token_use_not_recorded", token=token_id, error=str(error))
        finally:
            self._recording.discard(token_id)


def _make_recorder() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="token use")


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


def _check_valid(found: Found) -> None:
    if found.token.revoked_at is not None:
        raise Unauthorised("The token has been revoked.", _CURE, code="token_revoked")
    if found.expired:
        raise Unauthorised("The token has expired.", _CURE, code="token_expired")


def _operator(api_hash: bytes) -> Principal:
    """The holder of the service's own API token. Another API token is another reference."""
    return Principal(
        role="user",
        scopes=frozenset(USER_SCOPES),
        token_id="api-token",
        name="API token",
        reference="api-" + hashlib.sha256(b"reference" + api_hash).hexdigest(),
    )


def _principal(found: Found) -> Principal:
    token = found.token
    scopes = cast(frozenset[Scope], frozenset(token.scopes))
    return Principal(
        role=token.kind,
        scopes=frozenset(USER_SCOPES) if "admin" in scopes else scopes,
        token_id=token.id,
        name=token.name,
        reference=found.digest,
        agent_id=token.agent_id if token.kind == "agent" else None,
    )


def _hash(token: str) -> bytes:
    """Names a token in memory, so that none is kept there."""
    return hashlib.sha256(token.encode(errors="replace")).digest()
