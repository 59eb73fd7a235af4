"""One process that uploads are judged from, for all applications of a test process: starting one
takes longer than most tests.
"""

from __future__ import annotations

from functools import cache

from fastapi import FastAPI

from latency_service.inspection.inspector import Inspector
from latency_service.model_files import service as model_files_service
from latency_service.spaces import service as spaces_service


class Lasting(Inspector):
    """Outlives the applications that use it, and ends with the test process."""

    def close(self) -> None:
        pass


@cache
def _shared() -> Lasting:
    return Lasting([spaces_service.INSPECTION, model_files_service.INSPECTION])


def sharing(app: FastAPI) -> FastAPI:
    """The application, with the shared process in place of its own."""
    app.state.inspector = _shared()
    return app
