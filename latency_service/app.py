"""The ASGI application, assembled from all routes and middleware."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from latency_service import __version__
from latency_service.auth import routes as auth
from latency_service.auth.access import access
from latency_service.auth.authenticator import USER_SCOPES, Authenticator
from latency_service.campaigns import routes as campaigns
from latency_service.core.errors import ServiceError
from latency_service.dashboard.install import install as install_dashboard
from latency_service.db.engine import Database
from latency_service.devices import routes as devices
from latency_service.inspection.inspector import Inspector
from latency_service.jobs import routes as jobs
from latency_service.jobs.files import router as files_router
from latency_service.jobs.upkeep import Upkeep
from latency_service.lattices import routes as lattices
from latency_service.measurements import routes as measurements
from latency_service.model_files import routes as model_files
from latency_service.model_files import service as model_files_service
from latency_service.monitoring.collector import make_registry
from latency_service.predictors import routes as predictors
from latency_service.predictors.serving import Predictors
from latency_service.retention import rounds
from latency_service.retention import routes as retention
from latency_service.runs import routes as runs
from latency_service.settings import Settings
from latency_service.spaces import routes as spaces
from latency_service.spaces import service as spaces_service
from latency_service.verifications import routes as verifications
from latency_service.web import errors, health, reference
from latency_service.web.duties import repeat
from latency_service.web.envelope import Envelope
from latency_service.web.gate import Gate
from latency_service.web.logging import configure_logging
from latency_service.web.middleware import Metrics
from latency_service.web.readiness import Readiness
from latency_service.wiring import connect_handlers

log = structlog.get_logger(__name__)

ROUTERS = (
    health.router,
    predictors.router,
    auth.router,
    devices.router,
    devices.admin,
    retention.router,
    jobs.router,
    measurements.protocol,
    spaces.router,
    files_router,
    model_files.router,
    lattices.router,
    campaigns.router,
    verifications.router,
    measurements.router,
    measurements.comparison,
    runs.router,
)


def create_app(settings: Settings) -> FastAPI:
    """Create the service's ASGI application. Its server may set ``app.state.stopping`` (a
    `threading.Event`) to end waiting long polls.
    """
    connect_handlers()
    database = Database(settings.url)
    app = FastAPI(
        title="latency-service",
        version=__version__,
        summary="Latency of pruned networks on real devices: measured, predicted, verified.",
        lifespan=_lifespan,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        openapi_url=None,
    )
    app.root_path = settings.root_path
    app.state.settings = settings
    app.state.database = database
    app.state.inspector = Inspector([spaces_service.INSPECTION, model_files_service.INSPECTION])
    app.state.authenticator = Authenticator(database, settings)
    app.state.predictors = Predictors(
        database, settings.predictor_cache, settings.predictor_refresh_seconds
    )
    app.state.readiness = Readiness(database)
    app.state.registry = make_registry(database, settings)
    app.state.stopping = threading.Event()
    app.state.upkeep = Upkeep(database, settings, app.state.stopping)
    errors.install(app)
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(Metrics, registry=app.state.registry)
    app.add_middleware(Envelope)
    app.router.routes += [*jobs.HOT_ROUTES, *measurements.HOT_ROUTES, *predictors.HOT_ROUTES]
    for router in ROUTERS:
        app.include_router(router)
    may_read_metrics = [] if settings.open_metrics else access("read")
    app.include_router(health.metrics_router, dependencies=may_read_metrics)
    may_read_docs = [] if settings.open_docs else access(*USER_SCOPES)
    app.include_router(reference.router, dependencies=may_read_docs)
    install_dashboard(app, settings.root_path)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    configure_logging(as_json=app.state.settings.log_json)
    try:
        await app.state.authenticator.ensure_migrated()
    except ServiceError as error:
        log.error("not_ready", message=error.message, cure=error.cure)
    except SQLAlchemyError as error:
        log.error("no_database", message=str(error))
    async with _housekeeping(app), app.state.upkeep.running():
        yield
    app.state.stopping.set()
    app.state.authenticator.close()
    app.state.inspector.close()
    app.state.database.dispose()


@asynccontextmanager
async def _housekeeping(app: FastAPI) -> AsyncIterator[None]:
    """Work that goes on beside the requests."""
    keep_days = app.state.settings.keep_rounds_days
    if keep_days is None:
        yield
        return

    def drop_old_rounds() -> None:
        rounds.drop_old_rounds(app.state.database, keep_days)

    dropping = asyncio.create_task(repeat(rounds.INTERVAL_SECONDS, drop_old_rounds))
    try:
        yield
    finally:
        dropping.cancel()
        await asyncio.gather(dropping, return_exceptions=True)
