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


def can_be_mixed(teacher: nn.Module, batch: Batch, recipe: Recipe) -> bool:
    """Whether mixtures of these inputs mean anything: they are no numbers of words or categories,
    and what a teacher gives for them are class scores.
    """
    if len(batch) < 2 or not all(x.is_floating_point() for x in batch.inputs):
        return False
    with torch.no_grad():
        return are_class_scores(recipe, teacher(*batch.inputs), batch.target)
