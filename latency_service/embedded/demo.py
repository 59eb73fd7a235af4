"""Demo data for an empty database: whether there is room for them, and the program that measures
them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from latency_service.core.demo import MODULE, SPACE_NAME
from latency_service.embedded.supervisor import ChildSpec
from latency_service.measurements.models import Measurement
from latency_service.spaces import repository as spaces_repository

#: Packages of the extra `client` that the service itself does without.
_NEEDED = ("onnxscript", "safetensors", "PIL")


def missing_package() -> str | None:
    """A package that the demo needs and that is not installed."""
    return next((name for name in _NEEDED if find_spec(name) is None), None)


def what_is_there(session: Session) -> str | None:
    """What a database holds other than demo data; None if there is room for them."""
    others = [one for one in spaces_repository.spaces(session) if one.name != SPACE_NAME]
    if others:
        return f"the search space {others[0].name!r}"
    if spaces_repository.spaces(session):
        return None
    count = session.scalar(select(func.count()).select_from(Measurement)) or 0
    return f"{count} measurements" if count else None


def program(url: str, device: str, token: str, environment: Mapping[str, str]) -> ChildSpec:
    """The program that measures the demo data and says how far it is on standard error."""
    return ChildSpec(
        name="demo",
        command=(sys.executable, "-m", MODULE, url, device),
        environment={**environment, "LATENCY_SERVICE_TOKEN": token},
        log=None,
    )
