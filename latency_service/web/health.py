"""Whether the service lives, whether it is ready, and its figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from latency_service.core.errors import ServiceError
from latency_service.db.engine import Database
from latency_service.db.migrate import check_migrated, head_revision

router = APIRouter(tags=["health"])
#: The application says who may read it.
metrics_router = APIRouter(tags=["health"])

#: Number of jobs in each state.
CountJobs = Callable[[Session], dict[str, int]]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "not ready; `message` and `cure` say why"}})
def readyz(request: Request, response: Response) -> dict[str, str]:
    """The database answers and is migrated."""
    database: Database = request.app.state.database
    try:
        check_migrated(database.engine)
    except ServiceError as error:
        response.status_code = 503
        return {
            "status": error.code,
            "database": database.dialect,
            "message": error.message,
            "cure": error.cure,
        }
    except SQLAlchemyError as error:
        response.status_code = 503
        cure = "See that LATENCY_SERVICE_DATABASE_URL is right and the database runs."
        return {
            "status": "no_database",
            "database": database.dialect,
            "message": str(error),
            "cure": cure,
        }
    return {"status": "ready", "database": database.dialect, "revision": head_revision()}


@metrics_router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
)
def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(
        generate_latest(request.app.state.registry), media_type="text/plain; version=0.0.4"
    )


class QueueCollector(Collector):
    """Counts the jobs in each state when it is asked."""

    def __init__(self, database: Database, count_jobs: CountJobs) -> None:
        self._database = database
        self._count_jobs = count_jobs

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("latency_service_jobs", "Jobs by state", labels=["state"])
        try:
            with self._database.read() as session:
                counts = self._count_jobs(session)
        except SQLAlchemyError:
            return
        for state, count in counts.items():
            family.add_metric([state], count)
        yield family


def make_registry(database: Database, count_jobs: CountJobs) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(QueueCollector(database, count_jobs))
    return registry
