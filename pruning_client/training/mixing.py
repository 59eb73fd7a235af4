"""Mixed images, on which a network imitates a teacher.

Mixtures of two images (Zhang et al., "mixup", ICLR 2018) have no label of their own, but a teacher
answers them: with few images they are many more to imitate it on (Beyer et al., "Knowledge
distillation: a good teacher is patient and consistent", CVPR 2022). Taking every second epoch for
them is ours.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from pruning_client.data.batch import Batch
from pruning_client.execution.copies import copied
from pruning_client.training.batch_norm import train_mode
from pruning_client.training.hooks import Recipe
from pruning_client.training.outputs import are_class_scores


def mixed(batch: Batch, seed: int) -> Batch:
    """Each sample with another one in a random proportion, the same for the same seed.

    The targets stay those of the first ones, and do not belong to the mixtures.
    """
    random = torch.Generator().manual_seed(seed)
    count = len(batch)
    others = torch.randperm(count, generator=random)
    shares = torch.rand(count, generator=random)
    inputs = []
    for x in batch.inputs:
        share = shares.to(x).view(-1, *[1] * (x.dim() - 1))
        inputs.append(share * x + (1 - share) * x[others.to(x.device)])
    return replace(batch, inputs=tuple(inputs))


def can_be_mixed(model: nn.Module, teacher: nn.Module, batch: Batch, recipe: Recipe) -> bool:
    """Whether a network can imitate a teacher on mixtures of these inputs.

    The inputs must not be numbers of words or categories, and the outputs of both, of the network
    in training mode, must be class scores.

    Args:
        model: Network to train; it is copied, not changed.
        teacher: Dense network in eval mode.
    """
    if len(batch) < 2 or not all(x.is_floating_point() for x in batch.inputs):
        return False
    twin = copied(model)
    train_mode(twin)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs, wanted = twin(*batch.inputs), teacher(*batch.inputs)
    is_alike = torch.is_tensor(outputs) and outputs.shape == wanted.shape
    return is_alike and are_class_scores(recipe, wanted, batch.target)
