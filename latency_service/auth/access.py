"""Which tokens a route accepts: `dependencies=access("read")` at a router or a route says it, and
the API's description shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cache
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.params import Depends as DependsParameter
from fastapi.security import HTTPBearer

from latency_service.auth.authenticator import USER_SCOPES, Principal, Scope
from latency_service.core.errors import Forbidden
from latency_service.web.gate import before_body

USER_TOKEN = "UserToken"
AGENT_TOKEN = "AgentToken"
ENROLMENT_TOKEN = "EnrolmentToken"

#: The kinds of tokens, as the API's description names them. They only describe: `require_scope`
#: checks.
_USER = HTTPBearer(
    scheme_name=USER_TOKEN, auto_error=False, description="a user's token with the scope"
)
_AGENT = HTTPBearer(scheme_name=AGENT_TOKEN, auto_error=False, description="an agent's token")
_ENROLMENT = HTTPBearer(
    scheme_name=ENROLMENT_TOKEN, auto_error=False, description="an enrolment token"
)

_NAMES = {"agent": "an agent's token", "enrolment": "an enrolment token"}
_CURES = {
    "agent": "It belongs to the agent protocol: start `latency-service agent` instead.",
    "enrolment": (
        "Create an enrolment token with `latency-service enrolments create`; an agent that has "
        "registered uses its own token."
    ),
}


def check_scope(principal: Principal, *scopes: Scope) -> None:
    """Return if the principal has one of `scopes`.

    Raises:
        Forbidden: it has none of them.
    """
    if principal.scopes.isdisjoint(scopes):
        wanted = " or ".join(_NAMES.get(scope, f"the scope {scope!r}") for scope in scopes)
        raise Forbidden(f"This needs {wanted}.", _cure(scopes[0]))


@cache
def require_scope(*scopes: Scope) -> Callable[[Request], Coroutine[Any, Any, Principal]]:
    """A dependency: the request's principal, whom `web.gate` has let in, if it has one of `scopes`.
    Routes check it before they read the body.
    """

    @before_body
    async def dependency(request: Request) -> Principal:
        principal: Principal = request.state.principal
        check_scope(principal, *scopes)
        return principal

    return dependency


def access(*scopes: Scope) -> list[DependsParameter]:
    """Dependencies of a route that takes a token with one of `scopes`."""
    user_scopes = [scope for scope in scopes if scope in USER_SCOPES]
    shown = [Security(_USER, scopes=user_scopes)] if user_scopes else []
    shown += [Security(_AGENT)] if "agent" in scopes else []
    shown += [Security(_ENROLMENT)] if "enrolment" in scopes else []
    return [*shown, Depends(require_scope(*scopes))]


def _cure(scope: Scope) -> str:
    return _CURES.get(
        scope, f"An admin makes one with `latency-service tokens create NAME --scope {scope}`."
    )


#: The agent that asks.
AgentToken = Annotated[Principal, Depends(require_scope("agent"))]
#: The agent that registers, or registers again.
RegistrationToken = Annotated[Principal, Depends(require_scope("enrolment", "agent"))]
