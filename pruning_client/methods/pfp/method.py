"""Provable filter pruning (Liebenwein et al., "Provable filter pruning for efficient neural
networks", ICLR 2020, arXiv 1911.07412).

Sensitivities, sample sizes and the three modes follow the authors' public code. The budget in
milliseconds, the sensitivity of a width group and the number of distinct draws are our own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from latency_service.core.arrays import Floats
from pruning_client.data.batch import Batch
from pruning_client.errors import UsageError
from pruning_client.execution.copies import copied
from pruning_client.graph.modules import Reader
from pruning_client.methods.absorption import scale_inputs
from pruning_client.methods.allocation import check_reachable, fit, round_up, smallest_share
from pruning_client.methods.base import LEAST_SCORE, Context, Fact, Selection, best_channels
from pruning_client.methods.magnitude import l1_scores
from pruning_client.methods.ordering import in_order
from pruning_client.methods.pfp import guarantee, sampling
from pruning_client.methods.pfp.choice import Choice, Mode, choose, probabilities
from pruning_client.methods.pfp.sensitivity import Sensitivities, scored_readers, sensitivities

#: Maximum number of samples on which errors are measured.
_COMPARED = 64


@dataclass(frozen=True, kw_only=True)
class PFP:
    """Sensitivities of channels on data, and the widths of one relative error of every layer."""

    mode: Mode = "deterministic"
    #: Number of training samples to score; by default as many as `delta` asks for.
    images: int | None = None
    #: Probability that the guarantee fails.
    delta: float = 1e-16

    @property
    def name(self) -> str:
        return "pfp"

    def run(self, context: Context) -> Selection:
        """Score channels on training samples, and keep the widths of the least epsilon that meets
        the budget.

        In the modes ``random`` and ``mixed`` the weights of ``context.model`` that read drawn
        channels are multiplied by the factors of the draws.

        Raises:
            BudgetError: No widths on the lattice meet the target.
            UsageError: An option has no meaning.
        """
        self._check()
        predictor = context.predictor
        check_reachable(predictor.latency_ms, predictor.lattice, context.target_ms)
        scored, compared = _samples(context, self._images(context))
        found = sensitivities(context, scored)
        bound = _Bound.of(context, found, self.delta)
        epsilon, widths = bound.fit(context)
        fitted = fit(
            widths, bound.scores, predictor.latency_ms, predictor.lattice, context.target_ms
        )
        choices = _choices(bound.scores, fitted, self.mode, context.training.seed)
        scores = [
            in_order(score, choice.order)
            for score, choice in zip(bound.scores, choices, strict=True)
        ]
        keep = best_channels(scores, fitted)
        selection = Selection(keep=keep, scores=scores)
        pruned = copied(context.model).eval()
        _multiply(pruned, scored_readers(context), choices)
        facts = {
            "epsilon of the network": epsilon,
            **self._facts(context, bound, found, selection),
            **_errors(context, compared, choices, selection, pruned),
            "images scored": sum(len(batch) for batch in scored),
        }
        context.model.load_state_dict(pruned.state_dict())
        return Selection(keep=keep, scores=scores, facts=facts)

    def _check(self) -> None:
        if self.mode not in ("deterministic", "random", "mixed"):
            raise UsageError(
                f"PFP has no mode {self.mode!r}.", "Use deterministic, random or mixed."
            )
        if not 0 < self.delta < 1 or (self.images is not None and self.images < 1):
            raise UsageError(
                f"PFP(images={self.images}, delta={self.delta}) has no meaning.",
                "Give a positive number of images and a probability between 0 and 1.",
            )

    def _images(self, context: Context) -> int:
        if self.images is not None:
            return self.images
        return _needed(context, self.delta)

    def _facts(
        self, context: Context, bound: _Bound, found: Sensitivities, selection: Selection
    ) -> dict[str, Fact]:
        """The guarantee of the mode at the selection's widths."""
        facts: dict[str, Fact] = {
            "delta": self.delta,
            "images that delta asks for": _needed(context, self.delta),
        }
        if self.mode == "deterministic":
            share = guarantee.removed_share(context.traced, found, selection.keep)
            return facts | {"bound of the removed share on the images scored": share}
        return facts | {"largest epsilon of a layer": bound.epsilon(selection.widths)}


@dataclass(frozen=True, kw_only=True)
class _Bound:
    """The sample sizes of every group."""

    #: Sensitivities [G][C], at least `LEAST_SCORE`.
    scores: list[Floats]
    #: Factor of the sample size of each group [G].
    factors: list[float]

    @classmethod
    def of(cls, context: Context, found: Sensitivities, delta: float) -> _Bound:
        """Of a group the patches and taps are the largest product of a layer that reads it [ours].

        A group that no convolution or linear layer reads is scored by the share of each channel in
        the L1 norm of its filters [ours].
        """
        patches, taps = _sizes(context, found)
        magnitudes = l1_scores(context.model, context.traced)
        scores = [
            np.maximum(norm / norm.sum() if values is None else values, LEAST_SCORE)
            for values, norm in zip(found.groups, magnitudes, strict=True)
        ]
        factors = [
            sampling.complexity(float(score.sum()), patches[g], taps[g], delta)
            for g, score in enumerate(scores)
        ]
        return cls(scores=scores, factors=factors)

    def distinct(self, epsilon: float) -> list[float]:
        """Expected number of distinct channels of each group [G]."""
        return [
            float(np.ceil(sampling.expected_distinct(p, sampling.draws(epsilon, factor)) - 1e-9))
            for p, factor in self._groups()
        ]

    def fit(self, context: Context) -> tuple[float, list[int]]:
        """The least epsilon that meets the target, and its widths [G] on the lattice."""
        predictor = context.predictor
        low, high = np.log(self._range())

        def at(share: float) -> list[int]:
            return round_up(
                self.distinct(float(np.exp(low + share * (high - low)))), predictor.lattice
            )

        share, widths = smallest_share(
            at, predictor.latency_ms, predictor.lattice, context.target_ms
        )
        return float(np.exp(low + share * (high - low))), widths

    def epsilon(self, widths: Sequence[int]) -> float:
        """Largest epsilon of a group at these widths [G]; 0 where every channel is kept."""
        return max(
            sampling.epsilon_of(sampling.draws_for(p, width), factor)
            for (p, factor), width in zip(self._groups(), widths, strict=True)
        )

    def _groups(self) -> Iterator[tuple[Floats, float]]:
        for score, factor in zip(self.scores, self.factors, strict=True):
            yield probabilities(score), factor

    def _range(self) -> tuple[float, float]:
        """Epsilon at which every group is whole, and at which every group has one draw."""
        whole = [
            sampling.epsilon_of(-np.log(1e-3 / len(p)) / p[p > 0].min(), factor)
            for p, factor in self._groups()
        ]
        return min(whole), max(sampling.epsilon_of(1, factor) for factor in self.factors)


def _sizes(context: Context, found: Sensitivities) -> tuple[list[int], list[int]]:
    """Patches of a sample and taps of the layer with the largest union bound of each group [G]."""
    patches = [1] * len(found.groups)
    taps = [1] * len(found.groups)
    for reader in scored_readers(context):
        layer = found.layers.get(reader.module)
        if layer is None:
            continue
        for group in np.unique(reader.group[reader.group >= 0]):
            if (layer.patches + 1) * layer.taps > (patches[group] + 1) * taps[group]:
                patches[group] = layer.patches
                taps[group] = layer.taps
    return patches, taps


def _needed(context: Context, delta: float) -> int:
    sizes = [len(producer.filters) for producer in context.traced.producers]
    return sampling.images_needed(max(sizes), sum(sizes), delta)


def _choices(
    scores: Sequence[Floats], widths: Sequence[int], mode: Mode, seed: int
) -> list[Choice]:
    generator = np.random.default_rng(seed % 2**32)
    return [
        choose(score, width, mode, generator) for score, width in zip(scores, widths, strict=True)
    ]


def _multiply(model: nn.Module, readers: Sequence[Reader], choices: Sequence[Choice]) -> None:
    """Multiply the weights that read the channels of each group by their factors, in place."""
    factors = [choice.factors for choice in choices]
    done: set[int] = set()
    with torch.no_grad():
        for reader in readers:
            module = model.get_submodule(reader.module)
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            if id(weight) not in done:
                scale_inputs(module, torch.from_numpy(guarantee.along_inputs(reader, factors)))
            done.add(id(weight))


def _errors(
    context: Context,
    compared: Sequence[Batch],
    choices: Sequence[Choice],
    selection: Selection,
    pruned: nn.Module,
) -> dict[str, Fact]:
    """Errors seen on samples that were not scored."""
    scales = [np.zeros(len(choice.factors)) for choice in choices]
    for scale, choice, kept in zip(scales, choices, selection.keep, strict=True):
        scale[kept] = choice.factors[kept]
    seen = guarantee.errors_of_layers(context, compared, scales)
    return {
        "largest relative error seen": seen.largest,
        "mean relative error seen": seen.mean,
        "relative error of the outputs before recalibration": guarantee.error_of_outputs(
            context, compared, selection.keep, pruned
        ),
        "images compared": sum(len(batch) for batch in compared),
    }


def _samples(context: Context, count: int) -> tuple[list[Batch], list[Batch]]:
    """Training samples to score, and others to compare; the same ones where there are too few."""
    batches: list[Batch] = []
    left = count + _COMPARED
    for batch in context.train.shuffled(context.training.seed):
        batches.append(batch.first(left))
        left -= len(batches[-1])
        if left <= 0:
            break
    total = count + _COMPARED - left
    scored = min(count, total)
    start = scored if scored < total else max(0, total - _COMPARED)
    return _between(batches, 0, scored), _between(batches, start, total)


def _between(batches: Sequence[Batch], start: int, end: int) -> list[Batch]:
    """Samples `start` to `end` of several batches."""
    found = []
    at = 0
    for batch in batches:
        part = slice(max(0, start - at), max(0, end - at))
        if part.start < len(batch) and part.stop > part.start:
            found.append(batch.part(part))
        at += len(batch)
    return found
