"""Prune a CNN to a latency budget that is proven by measuring on the device.

>>> result = prune(model, (images, labels), budget_ms="1.2ms", device="board")  # doctest: +SKIP
"""

from latency_service.core.client import Client
from pruning_client.graph.checkpoint import load
from pruning_client.graph.space import SearchSpace
from pruning_client.latency.predictor import Predictor
from pruning_client.pipeline.prune import prune
from pruning_client.pipeline.sweep import fastest, sweep
from pruning_client.training.hooks import Recipe

__all__ = ["Client", "Predictor", "Recipe", "SearchSpace", "fastest", "load", "prune", "sweep"]
