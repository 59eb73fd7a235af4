"""The ASGI application, assembled from all routes and middleware."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from latency_service import __version__
from latency_service.auth import routes as auth
from latency_service.auth.authenticator import Authenticator
from latency_service.campaigns import routes as campaigns
from latency_service.core.errors import ServiceError
from latency_service.db.engine import Database
from latency_service.devices import routes as devices
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs import routes as jobs
from latency_service.jobs.upkeep import Upkeep
from latency_service.lattices import routes as lattices
from latency_service.measurements import routes as measurements
from latency_service.model_files import routes as model_files
from latency_service.predictors import routes as predictors
from latency_service.predictors.serving import Predictors
from latency_service.retention import routes as retention
from latency_service.runs import routes as runs
from latency_service.settings import Settings
from latency_service.spaces import routes as spaces
from latency_service.verifications import routes as verifications
from latency_service.web import errors, health
from latency_service.web.logging import configure_logging
from latency_service.web.middleware import BodyLimit, Metrics
from latency_service.wiring import connect_handlers

log = structlog.get_logger(__name__)

ROUTERS = (
    health.router,
    predictors.router,
    auth.router,
    devices.router,
    retention.router,
    jobs.router,
    measurements.protocol,
    spaces.router,
    model_files.router,
    lattices.router,
    campaigns.router,
    verifications.router,
    measurements.router,
    runs.router,
)
UPLOADS = ("/v1/spaces", "/v1/models/")


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
        root_path=settings.root_path,
        responses={401: {"model": errors.ErrorResponse}, 422: {"model": errors.ErrorResponse}},
    )
    app.state.settings = settings
    app.state.database = database
    app.state.authenticator = Authenticator(database, settings)
    app.state.predictors = Predictors(
        database, settings.predictor_cache, settings.predictor_refresh_seconds
    )
    app.state.registry = health.make_registry(database, jobs_repository.count_by_state)
    app.state.stopping = threading.Event()
    app.state.upkeep = Upkeep(database, settings, app.state.stopping)
    errors.install(app)
    app.add_middleware(BodyLimit, limit_bytes=settings.max_json_bytes, uploads=UPLOADS)
    app.add_middleware(Metrics, registry=app.state.registry)
    app.router.routes.append(predictors.hot_route)
    for router in ROUTERS:
        app.include_router(router)
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
    async with app.state.upkeep.running():
        yield
    app.state.stopping.set()
    app.state.database.dispose()
