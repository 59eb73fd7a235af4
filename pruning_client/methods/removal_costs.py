"""The removal cost of each channel, estimated before gates are trained."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pruning_client.execution import distributed
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods.base import Context
from pruning_client.methods.gates import Gates
from pruning_client.training.losses import has_classes, softening

#: Batches of training data that are looked at.
BATCHES = 30
#: The least cost, as a share of the mean one: no channel is for nothing.
_LEAST = 1e-4
_PHASE = "estimate removal costs"


def removal_costs(context: Context) -> list[Tensor]:
    """For every gate the loss that closing it alone adds [G][C], nats, all above zero, by the
    curvature of the loss.

    Where a network is trained its loss is flat: the first-order gradient of a gate is zero on
    average, whatever the channel is worth, and what its removal costs lies in the curvature. The
    Fisher information, the mean square of d(loss of one image) / d(gate), stands in for it (Theis
    et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018; for coupled
    channels Liu et al., "Group Fisher pruning", ICML 2021).

    The loss is the distance from the network's own answers: neither labels nor the user's loss are
    asked for [ours]. Of a classifier that is the distillation loss: the Fisher information for
    labels drawn from the answers, softened as in fine-tuning. Every image counts in it, while with
    given labels nearly all weight lies on the few images that the network gets wrong. Of other
    networks it is the squared distance, relative to the spread of the answers.
    """
    sizes = [group.width for group in context.traced.space.groups]
    model = context.model
    device = next(model.parameters()).device
    total = torch.zeros(sum(sizes), device=device)
    images = torch.zeros((), device=device)
    gates = Gates(model, context.traced)
    was_training = model.training
    generator = torch.Generator().manual_seed(context.training.seed)
    model.eval()
    batches = min(BATCHES, len(context.train))
    for done, (whole, labels) in enumerate(
        islice(context.train.shuffled(context.training.seed), batches), 1
    ):
        x, _, _ = distributed.shard(whole.to(device), labels)
        rows = torch.ones(len(x), sum(sizes), device=device, requires_grad=True)
        gates.set(torch.split(rows, sizes, dim=1))
        with gates.attached():
            loss = _loss(context, model(x), generator)
        (gradient,) = torch.autograd.grad(loss, rows)
        total += 0.5 * (len(x) * gradient).square().sum(0)
        images += len(x)
        context.progress(ProgressEvent(phase=_PHASE, done=done, total=batches, unit="batches"))
    model.train(was_training)
    distributed.average(total)
    distributed.average(images)
    mean = total / images.clamp_min(1)
    floor = _LEAST * mean.mean() + torch.finfo(mean.dtype).tiny
    return list(torch.split(torch.maximum(mean, floor), sizes))


def gives_classes(context: Context, answer: Any) -> bool:
    """Whether answers [B, classes, ...] are those of a classifier, as far as the recipe tells."""
    return has_classes(answer) and (
        context.training.recipe.evaluate is None or context.training.recipe.loss is F.cross_entropy
    )


def _loss(context: Context, answer: Any, generator: torch.Generator) -> Tensor:
    """A loss [] of a batch whose gradients for single images have the curvature of `removal_costs`
    as mean square.
    """
    if gives_classes(context, answer):
        softened = answer.float() / softening(context.training)
        chances = softened.detach().softmax(1).movedim(1, -1)
        drawn = torch.multinomial(chances.flatten(0, -2).cpu(), 1, generator=generator)
        return F.cross_entropy(softened, drawn.view(chances.shape[:-1]).to(answer.device))
    flat, _ = torch.utils._pytree.tree_flatten(answer)
    return torch.stack(
        [_projected(part.float(), generator) for part in flat if torch.is_tensor(part)]
    ).sum()


def _projected(answer: Tensor, generator: torch.Generator) -> Tensor:
    """The mean over images of a random projection of their answers: its gradients are those of the
    answers, mixed.
    """
    signs = torch.randint(0, 2, answer.shape, generator=generator).to(answer) * 2 - 1
    spread = answer.detach().std(correction=0).clamp_min(1e-12)
    projection: Tensor = (signs * answer).sum() / (spread * (len(answer) * answer.numel()) ** 0.5)
    return projection
