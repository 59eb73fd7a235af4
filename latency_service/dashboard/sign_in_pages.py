"""Signing in and out.

The form is protected before there is a session by a value that the page sets as a cookie and in the
form. A link's code is never used up by looking at the page, only by sending its form.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from latency_service.auth.access import access, require_scope
from latency_service.auth.audit import Audit
from latency_service.auth.authenticator import Authenticator, Principal
from latency_service.core.errors import ServiceError
from latency_service.dashboard import links, signing_in
from latency_service.dashboard.pages import html, redirect
from latency_service.dashboard.rendering import dashboard_of
from latency_service.dashboard.schemas import SignInCodeView
from latency_service.dashboard.signing_in import OwnForm
from latency_service.web.deps import Config, WriteSession, get_database, get_settings
from latency_service.web.errors import headers_of
from latency_service.web.routing import Router

router = APIRouter(include_in_schema=False)
api = Router(prefix="/v1", tags=["dashboard"], dependencies=access("read"))

_FORM_COOKIE = "latency_signin"
_FORM_SECONDS = 3600.0
#: A path of this host: `//` and backslashes would lead to another.
_LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")

for _name, _path in (("signin", "/signin"), ("signout", "/signout")):
    links.declare(_name, _path)


@api.post("/sign-in-codes", status_code=201)
def create_sign_in_code(
    session: WriteSession,
    settings: Config,
    principal: Annotated[Principal, Depends(require_scope("read"))],
    trail: Audit,
) -> SignInCodeView:
    """Make a link that signs one browser in, once, as the holder of the request's token."""
    trail.record(session, "sign_in_code.create")
    return signing_in.make_code(session, principal, settings.sign_in_code_seconds)


@router.get("/signin", name="signin", response_model=None)
def sign_in_page(request: Request, next: str = "", code: str = "") -> Response:
    """The form for a token; for a link, a button that uses its code."""
    return _form_page(request, wanted=next, code=code)


@router.post("/signin", name="signin", response_model=None)
async def sign_in(request: Request) -> Response:
    """Sign in with a token or a link's code."""
    fields = await signing_in.read_form(request)
    wanted = fields.get("next", "")
    try:
        signing_in.check_form(fields, request.cookies.get(_FORM_COOKIE, ""))
        cookie = await _begin(request, fields)
    except ServiceError as error:
        return _form_page(request, wanted=wanted, error=error)
    answer = _to_wanted(request, wanted)
    seconds = get_settings(request).session_seconds
    signing_in.give_cookie(request, answer, signing_in.cookie_name(request), cookie, seconds)
    return answer


@router.post("/signout", name="signout", response_model=None)
def sign_out(request: Request, _form: OwnForm) -> Response:
    """End the session."""
    _end(request)
    answer = redirect(request, "signin")
    answer.delete_cookie(
        signing_in.cookie_name(request), path=get_settings(request).root_path or "/"
    )
    return answer


async def _begin(request: Request, fields: dict[str, str]) -> str:
    authenticator: Authenticator = request.app.state.authenticator
    await authenticator.ensure_migrated()
    if code := fields.get("code", ""):
        principal = await signing_in.principal_of_code(request, authenticator, code)
    else:
        principal = await authenticator.principal_of(fields.get("token", "").strip(), request)
    return await run_in_threadpool(_begin_as, request, principal)


def _begin_as(request: Request, principal: Principal) -> str:
    seconds = get_settings(request).session_seconds
    with get_database(request).write() as session:
        return signing_in.begin(session, principal, seconds)


def _end(request: Request) -> None:
    with get_database(request).write() as session:
        signing_in.end(session, request)


def _form_page(
    request: Request, *, wanted: str, code: str = "", error: ServiceError | None = None
) -> Response:
    value = secrets.token_urlsafe(32)
    from_elsewhere = request.headers.get("sec-fetch-site") == "cross-site" and not code
    context = {
        "csrf": value,
        "next": wanted,
        "code": code,
        "error": error,
        # a link on another site's page comes without the session's cookie: look once more
        "again": _local(request, wanted) if from_elsewhere and wanted else None,
    }
    answer = html(request, "signin.html", context, status=error.status if error else 200)
    if error is not None:
        answer.headers.update(headers_of(error))
    signing_in.give_cookie(request, answer, _FORM_COOKIE, value, _FORM_SECONDS)
    return answer


def _to_wanted(request: Request, wanted: str) -> RedirectResponse:
    return RedirectResponse(_local(request, wanted), 303)


def _local(request: Request, wanted: str) -> str:
    """The page to show after signing in: one of this service, whatever the link says."""
    root = dashboard_of(request).root
    return root + wanted if _LOCAL_PATH.fullmatch(wanted) else links.link(root, "home")
