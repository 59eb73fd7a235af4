"""A service with one predictor and two runs, for pages that show them."""

from __future__ import annotations

from dataclasses import dataclass

from latency_service.agent.testing import FakeAgent
from tests.support import pruned
from tests.support.predictions import publish
from tests.support.sites import Site
from tests.support.tiny import tiny_space


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A service with one predictor and two runs."""

    site: Site
    space_id: str
    predictor_id: str
    runs: list[str]

    @property
    def predictor(self) -> str:
        return f"/predictors/{self.predictor_id}"


def show(site: Site) -> Shown:
    """Give an empty service a predictor and two runs."""
    space_id = site.upload(tiny_space())
    agent = FakeAgent(site.http, site.post("/v1/enrolments")["token"])
    predictor = publish(site.http, site.database, agent, space_id)  # type: ignore[arg-type]
    runs = [
        pruned.add_run(site, space_id, predictor, method=method, latency_ms=ms, accuracy=acc)
        for method, ms, acc in (("w-gates", 0.68, 91.2), ("gdp", 0.72, 91.0))
    ]
    return Shown(site=site, space_id=space_id, predictor_id=predictor, runs=runs)
