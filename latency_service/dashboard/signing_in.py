"""Who looks at a page: browsers that signed in with a token, and what they may do.

A session is a random value in a cookie; its hash, the hash of its token and its end are stored. It
ends with the secret that it was made with, when the token is revoked, has expired or was rotated:
every request asks whether that is still valid, and with what rights.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from latency_service.auth.access import check_scope
from latency_service.auth.authenticator import Authenticator, Principal, Scope
from latency_service.core.errors import BadRequest, Forbidden, TooLarge, Unauthorised
from latency_service.dashboard import repository
from latency_service.dashboard.models import SignInCode, WebSession
from latency_service.dashboard.schemas import SignInCodeView
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.web.deps import get_database, get_settings

#: Most bytes of a form.
MAX_FORM_BYTES = 64 << 10
#: Field of a form that carries the session's token against forged requests.
CSRF_FIELD = "csrf"


class NotSignedIn(Unauthorised):
    """A page was asked for without a valid session."""

    code = "not_signed_in"


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Who looks at a page."""

    principal: Principal
    #: What forms of this session must carry; empty for requests with a bearer token.
    csrf: str

    def may(self, scope: Scope) -> bool:
        """Whether pages show the buttons of what this scope allows."""
        return bool(self.csrf) and scope in self.principal.scopes

    @property
    def may_act(self) -> bool:
        """Whether pages show buttons that start and cancel work."""
        return self.may("submit")


def cookie_name(request: Request) -> str:
    """Name of the session's cookie: browsers do not tell two services of one host apart."""
    return f"latency_session_{request.url.port or 'default'}"


async def viewer_of(request: Request) -> Viewer:
    """Who asks for a page: by session, or, for programs that read its data, by bearer token.

    Raises:
        NotSignedIn: nobody that the service knows.
        TooManyRequests: an address that has sent too many secrets that are not valid, or a token
            that sends too many requests.
        Forbidden: a token that may not look.
    """
    authenticator: Authenticator = request.app.state.authenticator
    await authenticator.ensure_migrated()
    if request.headers.get("authorization"):
        viewer = Viewer(principal=await authenticator.principal(request), csrf="")
        request.state.count(viewer.principal.token_id)
        check_scope(viewer.principal, "read")
    else:
        viewer = await _signed_in(request, authenticator)
    request.state.viewer = viewer
    request.state.principal = viewer.principal
    return viewer


async def _signed_in(request: Request, authenticator: Authenticator) -> Viewer:
    cookie = request.cookies.get(cookie_name(request), "")
    if not cookie:
        raise _not_signed_in()
    sha256 = _sha256(cookie)
    with authenticator.refusals.limited(request.scope, sha256.encode()):
        return await run_in_threadpool(_viewer, get_database(request), authenticator, sha256)


def _viewer(database: Database, authenticator: Authenticator, sha256: str) -> Viewer:
    """Who has signed in with a cookie, given as its hash."""
    with database.read() as session:
        stored = repository.valid_session(session, sha256)
    principal = authenticator.holder_of(stored.token_reference) if stored else None
    if stored is None or principal is None or "read" not in principal.scopes:
        raise _not_signed_in()
    return Viewer(principal=principal, csrf=stored.csrf)


def _not_signed_in() -> NotSignedIn:
    return NotSignedIn(
        "You are not signed in.",
        "Sign in with a token, or open the link that `latency-service dashboard` prints.",
    )


SignedIn = Annotated[Viewer, Depends(viewer_of)]


def begin(session: Session, principal: Principal, seconds: float) -> str:
    """Sign a browser in; returns the value of its cookie.

    Raises:
        Forbidden: the token may not look at pages.
    """
    check_scope(principal, "read")
    repository.delete_expired(session)
    value = secrets.token_urlsafe(32)
    session.add(
        WebSession(
            sha256=_sha256(value),
            token_reference=principal.reference,
            csrf=secrets.token_urlsafe(32),
            expires_at=utcnow(seconds),
        )
    )
    return value


def end(session: Session, request: Request) -> None:
    """Sign the browser out."""
    repository.delete_session(session, _sha256(request.cookies.get(cookie_name(request), "")))


def make_code(session: Session, principal: Principal, seconds: float) -> SignInCodeView:
    """A code that signs one browser in as the principal."""
    code = secrets.token_urlsafe(32)
    row = SignInCode(
        sha256=_sha256(code),
        token_reference=principal.reference,
        expires_at=utcnow(seconds),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    expires_at: datetime = row.expires_at
    return SignInCodeView(code=code, path=f"/signin?code={code}", expires_at=expires_at)


async def principal_of_code(request: Request, authenticator: Authenticator, code: str) -> Principal:
    """Who a code signs in; it is used up.

    Raises:
        Unauthorised: it is unknown, used, or too old.
        TooManyRequests: the request's address has sent too many of these.
    """
    sha256 = _sha256(code)
    with authenticator.refusals.limited(request.scope, sha256.encode()):
        return await run_in_threadpool(_take_code, get_database(request), authenticator, sha256)


def _take_code(database: Database, authenticator: Authenticator, sha256: str) -> Principal:
    with database.write() as session:
        taken = repository.take_code(session, sha256)
    principal = authenticator.holder_of(taken) if taken else None
    if principal is None:
        raise Unauthorised(
            "The link was used before, or is too old.",
            "Make a new one with: latency-service dashboard",
        )
    return principal


def give_cookie(
    request: Request, response: Response, name: str, value: str, seconds: float
) -> None:
    """Set a cookie that scripts cannot read and that other sites' requests do not carry."""
    response.set_cookie(
        name,
        value,
        max_age=round(seconds),
        path=get_settings(request).root_path or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, sent from a page of this service.

    Raises:
        Forbidden: another site's page sent it.
        BadRequest: it is not a form.
        TooLarge: it is over `MAX_FORM_BYTES`.
    """
    _check_same_site(request)
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise BadRequest("The request is not a form.", "Use the form of the page.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise TooLarge(f"The form is larger than {MAX_FORM_BYTES} bytes.", "Send less.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=200))
    except ValueError as error:
        raise BadRequest("The form cannot be read.", "Use the form of the page.") from error


def check_form(fields: dict[str, str], expected: str) -> None:
    """Return if a form carries what is expected of it against forged requests, which is taken out
    of its fields. Every form is checked here.

    Raises:
        Forbidden: it does not, or nothing is expected.
    """
    sent = fields.pop(CSRF_FIELD, "").encode()
    if not expected or not hmac.compare_digest(sent, expected.encode()):
        raise Forbidden(
            "The form is out of date, or your browser keeps no cookies.",
            "Load its page again and send it once more.",
        )


async def own_form(request: Request, viewer: SignedIn) -> dict[str, str]:
    """The fields of a form of who has signed in.

    Raises:
        Forbidden: it is not a form of this session's pages.
    """
    fields = await read_form(request)
    check_form(fields, viewer.csrf)
    return fields


OwnForm = Annotated[dict[str, str], Depends(own_form)]


def posted_form(viewer: SignedIn, form: OwnForm) -> dict[str, str]:
    """The fields of a form of a viewer who may act.

    Raises:
        Forbidden: the token may only read.
    """
    check_scope(viewer.principal, "submit")
    return form


PostedForm = Annotated[dict[str, str], Depends(posted_form)]


def _check_same_site(request: Request) -> None:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("Another site sent this form.", "Use the page of this service.")


def _sha256(secret: str) -> str:
    """What is stored and compared instead of a cookie or a code: both are long and random."""
    return hashlib.sha256(secret.encode()).hexdigest()
