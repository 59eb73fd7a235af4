"""The audit log: who did what. A row is written in the transaction of the change itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request
from sqlalchemy.orm import Session

from latency_service.auth import repository
from latency_service.auth.authenticator import Principal
from latency_service.auth.models import AuditEntry
from latency_service.auth.schemas import AuditView
from latency_service.auth.service import DAY_SECONDS
from latency_service.settings import Settings


@dataclass(frozen=True, kw_only=True)
class AuditTrail:
    """The audit log as one request writes it."""

    principal: Principal
    settings: Settings

    def record(self, session: Session, action: str, object_id: str | None = None) -> None:
        """Write that the request's principal did something, and delete entries that are too old.

        Args:
            action: noun and verb, such as ``campaign.create``.
            object_id: id or name of the thing.
        """
        repository.delete_audit(session, self.settings.audit_days * DAY_SECONDS)
        entry = AuditEntry(
            token_id=self.principal.token_id,
            token_name=self.principal.name,
            agent_id=self.principal.agent_id,
            action=action,
            object_id=object_id,
            request_id=structlog.contextvars.get_contextvars().get("request_id"),
        )
        session.add(entry)


def listed(session: Session, action: str | None, limit: int, offset: int) -> list[AuditView]:
    """Entries of the log, newest first."""
    rows = repository.audit_entries(session, action=action, limit=limit, offset=offset)
    return [AuditView.model_validate(row, from_attributes=True) for row in rows]


def _trail(request: Request) -> AuditTrail:
    return AuditTrail(principal=request.state.principal, settings=request.app.state.settings)


#: The audit log, for routes that declare their access.
Audit = Annotated[AuditTrail, Depends(_trail)]
