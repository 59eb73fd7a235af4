"""Prune a CNN to a latency budget that is proven by measuring on the device.

>>> result = prune(model, (images, labels), budget_ms="1.2ms", device="board")  # doctest: +SKIP
"""

from latency_service.spaces.slicing import SearchSpace
from pruning_client.artefacts import load
from pruning_client.client import Client
from pruning_client.latency import Predictor
from pruning_client.pruning import prune
from pruning_client.recipe import Recipe
from pruning_client.sweep import fastest, sweep

__all__ = ["Client", "Predictor", "Recipe", "SearchSpace", "fastest", "load", "prune", "sweep"]
