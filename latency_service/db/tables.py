"""Every table, so that `Base.metadata` is complete."""

from latency_service.auth.models import AuditEntry, ServerKey, Token, TokenSecret
from latency_service.campaigns.models import Campaign
from latency_service.dashboard.models import SignInCode, WebSession
from latency_service.db.base import Base
from latency_service.devices.models import Agent, Device, Target
from latency_service.jobs.models import Attempt, Job
from latency_service.lattices.models import StoredLattice
from latency_service.measurements.models import Measurement
from latency_service.model_files.models import ModelFile
from latency_service.predictors.models import StoredPredictor
from latency_service.runs.models import Run, RunEntry
from latency_service.sharing.models import DatabaseIdentity
from latency_service.spaces.models import Space

__all__ = [
    "Agent",
    "Attempt",
    "AuditEntry",
    "Base",
    "Campaign",
    "DatabaseIdentity",
    "Device",
    "Job",
    "Measurement",
    "ModelFile",
    "Run",
    "RunEntry",
    "ServerKey",
    "SignInCode",
    "Space",
    "StoredLattice",
    "StoredPredictor",
    "Target",
    "Token",
    "TokenSecret",
    "WebSession",
]
