"""Prune a CNN to a latency budget that is proven by measuring on the device.

>>> result = prune(model, (images, labels), budget="1.2ms", target="board")  # doctest: +SKIP
"""

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
from pruning_client.pipeline.quantisation import Quantisation
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
