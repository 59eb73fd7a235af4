"""What a report is about: a predictor, a campaign or a target, with what belongs to it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel
from sqlalchemy.orm import Session

from latency_service.campaigns import repository as campaigns_repository
from latency_service.core.errors import NotFound
from latency_service.dashboard.campaigns import progress as campaign_progress
from latency_service.dashboard.campaigns.progress import CampaignProgress
from latency_service.dashboard.fleet import drift as canary_drift
from latency_service.dashboard.fleet.drift import Drift
from latency_service.dashboard.places import place_of
from latency_service.dashboard.predictors import pages as predictor_pages
from latency_service.dashboard.predictors.views import PredictorPage
from latency_service.dashboard.targets import pages as target_pages
from latency_service.dashboard.targets.views import TargetPage
from latency_service.devices import repository as devices_repository
from latency_service.devices.models import Target
from latency_service.predictors import repository as predictors_repository

Subject = Literal["predictor", "campaign", "target"]


class ReportView(BaseModel):
    """Everything in one report."""

    subject: Subject
    subject_id: str
    title: str
    place: str
    made_at: datetime
    campaign: CampaignProgress | None = None
    predictor: PredictorPage | None = None
    target: TargetPage | None = None
    drift: Drift | None = None

    @property
    def command(self) -> str:
        """The command that makes the report again."""
        return f"latency-service report {self.subject_id} --out report.html"


def read(session: Session, subject_id: str, base_url: str) -> ReportView:
    """The report of what has that id.

    Raises:
        NotFound: nothing has.
    """
    if predictors_repository.predictor(session, subject_id) is not None:
        return _of_predictor(session, subject_id, base_url)
    if campaigns_repository.campaign(session, subject_id) is not None:
        return _of_campaign(session, subject_id, base_url)
    target = devices_repository.known_target(session, subject_id)
    if target is not None:
        place = place_of(target)
        return _with_target(session, target, "target", subject_id, f"Target {place.text}")
    raise NotFound(
        f"No predictor, campaign or target has the id {subject_id!r}.",
        "See: latency-service predictors list, campaigns list, or devices show DEVICE",
    )


def _of_predictor(session: Session, predictor_id: str, base_url: str) -> ReportView:
    view = predictor_pages.read(session, predictor_id, base_url)
    target = target_pages.known_target(session, view.summary.place.target_id)
    title = f"Predictor of {view.summary.space}, version {view.summary.version}"
    report = _with_target(session, target, "predictor", predictor_id, title)
    return report.model_copy(update={"predictor": view})


def _of_campaign(session: Session, campaign_id: str, base_url: str) -> ReportView:
    progress = campaign_progress.read(session, campaign_id)
    campaign = progress.campaign
    title = f"Campaign of {progress.space} on {campaign.device}"
    if campaign.predictor_id is not None:
        report = _of_predictor(session, campaign.predictor_id, base_url)
    else:
        target = devices_repository.current_target(
            session, campaign.device_id, campaign.runtime.key
        )
        report = _with_target(session, target, "campaign", campaign_id, title)
    about = {"subject": "campaign", "subject_id": campaign_id, "title": title}
    return report.model_copy(update={**about, "campaign": progress})


def _with_target(
    session: Session, target: Target | None, subject: Subject, subject_id: str, title: str
) -> ReportView:
    report = ReportView(
        subject=subject,
        subject_id=subject_id,
        title=title,
        place="",
        made_at=devices_repository.now(session),
    )
    if target is None:  # nothing has been measured yet
        return report
    found = canary_drift.read(session, target.device_id, target.device.name)
    mine = [point for point in found.points if point.runtime == target.runtime_key]
    return report.model_copy(
        update={
            "place": place_of(target).text,
            "target": target_pages.read(session, target.id),
            "drift": found.model_copy(update={"points": mine}),
        }
    )
