"""Prune a CNN to a latency budget that is proven by measuring on the device.

>>> result = prune(model, (images, labels), budget="1.2ms", target="board")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latency_service.core.client import Client
    from pruning_client.data.files import ImageFiles
    from pruning_client.data.samples import Samples
    from pruning_client.data.sources import as_batches
    from pruning_client.errors import (
        BudgetError,
        DataError,
        InvalidInput,
        MeasurementFailed,
        Missing,
        ModelError,
        PredictorRefused,
        PruningError,
        PruningWarning,
        Refused,
        SlowerThanDense,
        TrainingFailed,
        UsageError,
    )
    from pruning_client.execution.progress import ProgressEvent
    from pruning_client.graph.checkpoint import load
    from pruning_client.graph.space import SearchSpace
    from pruning_client.graph.widening import widen
    from pruning_client.latency.predictor import Predictor
    from pruning_client.methods.base import Context, Method, Selection
    from pruning_client.methods.dcp.method import DCP
    from pruning_client.methods.dcp.wide import DCPH
    from pruning_client.methods.functionality.method import Functionality
    from pruning_client.methods.gates import filters_of
    from pruning_client.methods.gdp import GDP
    from pruning_client.methods.magnitude import Magnitude, Uniform, allocate
    from pruning_client.methods.meta_pruning.method import MetaPruning
    from pruning_client.methods.most_macs import MostMacs
    from pruning_client.methods.pfp.method import PFP
    from pruning_client.methods.scop import SCOP
    from pruning_client.methods.unification.method import WeightUnification
    from pruning_client.methods.w_gates import FreeGates, WGates
    from pruning_client.pipeline.compare import compare
    from pruning_client.pipeline.compress import compress
    from pruning_client.pipeline.compressed import Compressed, load_compressed
    from pruning_client.pipeline.contest.contest import compare_methods
    from pruning_client.pipeline.contest.equality import EqualLatency
    from pruning_client.pipeline.prune import prune
    from pruning_client.pipeline.quantisation_settings import Quantisation
    from pruning_client.pipeline.ray import RayCluster
    from pruning_client.pipeline.result import PruneResult
    from pruning_client.pipeline.sweep import fastest, sweep
    from pruning_client.pipeline.verify import Verify
    from pruning_client.reports.contest_schema import Contest
    from pruning_client.reports.progress_bars import ProgressBars
    from pruning_client.reports.schema import Front, Report
    from pruning_client.reports.terminal import print_report
    from pruning_client.service.campaign import Campaign
    from pruning_client.service.embedded import embedded_service
    from pruning_client.service.target import Target
    from pruning_client.training import recipes
    from pruning_client.training.config import Training
    from pruning_client.training.hooks import GateTraining, Metric, Recipe
    from pruning_client.training.metrics import accuracy
    from pruning_client.training.trainer import finetune

__all__ = [
    "DCP",
    "DCPH",
    "GDP",
    "PFP",
    "SCOP",
    "BudgetError",
    "Campaign",
    "Client",
    "Compressed",
    "Contest",
    "Context",
    "DataError",
    "EqualLatency",
    "FreeGates",
    "Front",
    "Functionality",
    "GateTraining",
    "ImageFiles",
    "InvalidInput",
    "Magnitude",
    "MeasurementFailed",
    "MetaPruning",
    "Method",
    "Metric",
    "Missing",
    "ModelError",
    "MostMacs",
    "Predictor",
    "PredictorRefused",
    "ProgressBars",
    "ProgressEvent",
    "PruneResult",
    "PruningError",
    "PruningWarning",
    "Quantisation",
    "RayCluster",
    "Recipe",
    "Refused",
    "Report",
    "Samples",
    "SearchSpace",
    "Selection",
    "SlowerThanDense",
    "Target",
    "Training",
    "TrainingFailed",
    "Uniform",
    "UsageError",
    "Verify",
    "WGates",
    "WeightUnification",
    "accuracy",
    "allocate",
    "as_batches",
    "compare",
    "compare_methods",
    "compress",
    "embedded_service",
    "fastest",
    "filters_of",
    "finetune",
    "load",
    "load_compressed",
    "print_report",
    "prune",
    "recipes",
    "sweep",
    "widen",
]

#: Modules with their public names. They are imported when a name is used: torch takes seconds, and
#: help pages and shell completion do not need it.
_NAMES = {
    "latency_service.core.client": ("Client",),
    "pruning_client.data.files": ("ImageFiles",),
    "pruning_client.data.samples": ("Samples",),
    "pruning_client.data.sources": ("as_batches",),
    "pruning_client.errors": (
        "BudgetError",
        "DataError",
        "InvalidInput",
        "MeasurementFailed",
        "Missing",
        "ModelError",
        "PredictorRefused",
        "PruningError",
        "PruningWarning",
        "Refused",
        "SlowerThanDense",
        "TrainingFailed",
        "UsageError",
    ),
    "pruning_client.execution.progress": ("ProgressEvent",),
    "pruning_client.graph.checkpoint": ("load",),
    "pruning_client.graph.space": ("SearchSpace",),
    "pruning_client.graph.widening": ("widen",),
    "pruning_client.latency.predictor": ("Predictor",),
    "pruning_client.methods.base": ("Context", "Method", "Selection"),
    "pruning_client.methods.dcp.method": ("DCP",),
    "pruning_client.methods.dcp.wide": ("DCPH",),
    "pruning_client.methods.functionality.method": ("Functionality",),
    "pruning_client.methods.gates": ("filters_of",),
    "pruning_client.methods.gdp": ("GDP",),
    "pruning_client.methods.magnitude": ("Magnitude", "Uniform", "allocate"),
    "pruning_client.methods.meta_pruning.method": ("MetaPruning",),
    "pruning_client.methods.most_macs": ("MostMacs",),
    "pruning_client.methods.pfp.method": ("PFP",),
    "pruning_client.methods.scop": ("SCOP",),
    "pruning_client.methods.unification.method": ("WeightUnification",),
    "pruning_client.methods.w_gates": ("FreeGates", "WGates"),
    "pruning_client.pipeline.compare": ("compare",),
    "pruning_client.pipeline.compress": ("compress",),
    "pruning_client.pipeline.compressed": ("Compressed", "load_compressed"),
    "pruning_client.pipeline.contest.contest": ("compare_methods",),
    "pruning_client.pipeline.contest.equality": ("EqualLatency",),
    "pruning_client.pipeline.prune": ("prune",),
    "pruning_client.pipeline.quantisation_settings": ("Quantisation",),
    "pruning_client.pipeline.ray": ("RayCluster",),
    "pruning_client.pipeline.result": ("PruneResult",),
    "pruning_client.pipeline.sweep": ("fastest", "sweep"),
    "pruning_client.pipeline.verify": ("Verify",),
    "pruning_client.reports.contest_schema": ("Contest",),
    "pruning_client.reports.progress_bars": ("ProgressBars",),
    "pruning_client.reports.schema": ("Front", "Report"),
    "pruning_client.reports.terminal": ("print_report",),
    "pruning_client.service.campaign": ("Campaign",),
    "pruning_client.service.embedded": ("embedded_service",),
    "pruning_client.service.target": ("Target",),
    "pruning_client.training": ("recipes",),
    "pruning_client.training.config": ("Training",),
    "pruning_client.training.hooks": ("GateTraining", "Metric", "Recipe"),
    "pruning_client.training.metrics": ("accuracy",),
    "pruning_client.training.trainer": ("finetune",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """A public name, imported when it is first used (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_HOMES[name]), name, None)
        if found is None:
            found = import_module(f"{_HOMES[name]}.{name}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
