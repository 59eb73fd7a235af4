"""Who is asking: the holders of bearer tokens, looked up in the database once, then remembered and
checked together every few seconds.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Set
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

#: Tokens remembered at once, and how long one is that is not used.
_MOST_KNOWN = 10_000
_KEPT_SECONDS = 900.0
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


@dataclass(kw_only=True)
class _Known:
    """A token that was valid at the last look at the database."""

    principal: Principal
    used_at: float


class Authenticator:
    """Checks tokens. Those known are remembered, and every `Settings.token_cache_seconds` one look
    at the database shows which of them are still valid: a fleet whose agents ask once a minute
    costs no look for each request. Its coroutines are for one event loop, everything else is
    thread-safe.
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
        #: By the hash of what was sent.
        self._known: dict[bytes, _Known] = {}
        #: When all known tokens were checked last, which one thread does at a time.
        self._checked_at = clock()
        self._checking = threading.Lock()
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
        if sent in self._known and self._is_check_due():
            await run_in_threadpool(self._check_known)
        known = self._known.get(sent)
        if known is not None:
            known.used_at = self._clock()
            return known.principal
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
        for sent, known in list(self._known.items()):
            if known.principal.token_id == token_id:
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
            self._record_uses({found.token.id})
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
        self._known[sent] = _Known(principal=principal, used_at=self._clock())

    def _is_check_due(self) -> bool:
        return self._clock() >= self._checked_at + self._settings.token_cache_seconds

    def _check_known(self) -> None:
        """Forget the tokens that are not valid any more, and those not used for long; record the
        uses since the last check.
        """
        with self._checking:
            if not self._is_check_due():  # another thread has just done it
                return
            before, now = self._checked_at, self._clock()
            remembered = list(self._known.items())
            with self._database.read() as session:
                valid = repository.valid(
                    session, [known.principal.reference for _, known in remembered]
                )
            for sent, known in remembered:
                if known.principal.reference not in valid or known.used_at < now - _KEPT_SECONDS:
                    self._known.pop(sent, None)
            self._checked_at = now
        used = {known.principal.token_id for _, known in remembered if known.used_at >= before}
        self._record_uses(used.intersection(filter(None, valid.values())))

    def _record_uses(self, token_ids: Set[str]) -> None:
        new = token_ids - self._recording
        if new:
            self._recording |= new
            self._recorder.submit(self._write_uses, new)

    def _write_uses(self, token_ids: Set[str]) -> None:
        try:
            with self._database.write() as session:
                repository.record_uses(session, token_ids)
        except SQLAlchemyError as error:
            log.warning("token_uses_not_recorded", count=len(token_ids), error=str(error))
        finally:
            self._recording -= token_ids


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
