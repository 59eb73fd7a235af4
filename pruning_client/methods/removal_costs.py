"""The removal cost of each channel, estimated before gates are trained."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from pruning_client.data.batch import Batch
from pruning_client.execution import distributed
from pruning_client.execution.modes import evaluating
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods.base import Context
from pruning_client.methods.gates import Gates
from pruning_client.training.config import Training
from pruning_client.training.outputs import are_class_scores, softening

#: Maximum number of training batches that the estimate uses.
BATCHES = 30
#: Lower bound of a cost, as a share of the mean cost: no channel is free.
_LEAST = 1e-4
_PHASE = "estimate removal costs"


def removal_costs(context: Context) -> list[Tensor]:
    """Loss that closing each gate alone adds [G][C], nats, always positive, from the curvature of
    the loss.

    A trained network is at a minimum of its loss: the first-order gradient of a gate is zero on
    average, whatever the channel is worth, and the cost of its removal lies in the curvature. The
    Fisher information, the mean square of d(loss of one image) / d(gate), approximates it (Theis et
    al., "Faster gaze prediction with dense networks and Fisher pruning", 2018; for coupled channels
    Liu et al., "Group Fisher pruning", ICML 2021).

    The loss is the distance from the network's own outputs, so that neither labels nor the user's
    loss are needed [ours]. For a classifier it is the distillation loss: the Fisher information for
    labels drawn from the outputs, softened as in fine-tuning. Every image counts in it, whereas
    with given labels nearly all weight lies on the few images that the network gets wrong. For
    another network it is the squared distance, relative to the variance of the outputs.
    """
    estimate = _Estimate(context)
    batches = min(BATCHES, len(context.train))
    shuffled = islice(context.train.shuffled(context.training.seed), batches)
    with evaluating(context.model):
        for done, batch in enumerate(shuffled, 1):
            estimate.add(batch)
            context.progress(ProgressEvent(phase=_PHASE, done=done, total=batches, unit="batches"))
    return estimate.costs()


class _Estimate:
    """Fisher information of the gates, summed over images."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._device = next(context.model.parameters()).device
        self._sizes = [group.width for group in context.traced.space.groups]
        self._gates = Gates(context.model, context.traced)
        self._generator = torch.Generator().manual_seed(context.training.seed)
        self._total = torch.zeros(sum(self._sizes), device=self._device)
        self._images = torch.zeros((), device=self._device)

    def add(self, batch: Batch) -> None:
        """Add this process's part of a batch."""
        mine = batch.part(distributed.share(len(batch))[0]).to(self._device)
        for piece in mine.parts(self._context.training.micro_batch):
            self._add(piece)

    def _add(self, mine: Batch) -> None:
        count = len(mine)
        gates = torch.ones(count, len(self._total), device=self._device, requires_grad=True)
        self._gates.set(torch.split(gates, self._sizes, dim=1))
        with self._gates.attached():
            outputs = self._context.model(*mine.inputs)
            loss = _loss(self._context.training, outputs, mine.target, self._generator)
        (gradient,) = torch.autograd.grad(loss, gates)
        self._total += 0.5 * (count * gradient).square().sum(0)
        self._images += count

    def costs(self) -> list[Tensor]:
        """Mean costs [G][C] over the images of all processes."""
        distributed.average(self._total)
        distributed.average(self._images)
        mean = self._total / self._images.clamp_min(1)
        floor = _LEAST * mean.mean() + torch.finfo(mean.dtype).tiny
        return list(torch.split(torch.maximum(mean, floor), self._sizes))


def _loss(training: Training, outputs: Any, target: Any, generator: torch.Generator) -> Tensor:
    """Loss [] of a batch; the mean square of its gradients for single images is the curvature."""
    if are_class_scores(training.recipe, outputs, target):
        return _loss_of_drawn_labels(outputs.float() / softening(training), generator)
    leaves = pytree.tree_leaves(outputs)
    return torch.stack(
        [random_projection(part.float(), generator) for part in leaves if torch.is_tensor(part)]
    ).sum()


def _loss_of_drawn_labels(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Cross-entropy [] of logits [B, classes, ...] with labels drawn from their distribution."""
    chances = logits.detach().softmax(1).movedim(1, -1)
    drawn = torch.multinomial(chances.flatten(0, -2).cpu(), 1, generator=generator)
    return F.cross_entropy(logits, drawn.view(chances.shape[:-1]).to(logits.device))


def random_projection(outputs: Tensor, generator: torch.Generator) -> Tensor:
    """Mean over images [] of a random projection of their outputs, in units of their standard
    deviation.
    """
    signs = torch.randint(0, 2, outputs.shape, generator=generator).to(outputs) * 2 - 1
    spread = outputs.detach().std(correction=0).clamp_min(1e-12)
    projection: Tensor = (signs * outputs).sum() / (
        spread * (len(outputs) * outputs.numel()) ** 0.5
    )
    return projection
