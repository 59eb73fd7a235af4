"""Routes of lattices."""

from __future__ import annotations

from latency_service.auth.access import access
from latency_service.devices import service as devices_service
from latency_service.lattices import repository, service
from latency_service.lattices.schemas import LatticeView
from latency_service.web.answers import errors
from latency_service.web.deps import Limit, Offset, ReadSession
from latency_service.web.routing import Router

router = Router(prefix="/v1/lattices", tags=["lattices"], dependencies=access("read"))


@router.get("", responses=errors(404))
def list_lattices(
    session: ReadSession, device: str | None = None, limit: Limit = 100, offset: Offset = 0
) -> list[LatticeView]:
    """Lattices, newest first, of one device or of all."""
    device_id = devices_service.get_device(session, device).id if device else None
    return [service.show(row) for row in repository.of_device(session, device_id, limit, offset)]


@router.get("/{lattice_id}")
def show_lattice(lattice_id: str, session: ReadSession) -> LatticeView:
    """One lattice, with the sweeps that it was found from."""
    return service.get(session, lattice_id)
