"""What methods share that choose channels while they train the weights."""

from __future__ import annotations

import torch
from torch import nn

from pruning_client.execution.copies import copied
from pruning_client.methods import allocation
from pruning_client.methods.base import Context
from pruning_client.training.batch_norm import recalibrate_batch_norm
from pruning_client.training.callback import Callback
from pruning_client.training.phase import Phase
from pruning_client.training.schedules import Schedule
from pruning_client.training.trainer import Evaluate, History, Trainer

_PHASE = "prune"
#: Steps between entries of the history.
_REPORT_EVERY = 5
#: Weight of the latest loss in the reported mean.
_LOSS_WEIGHT = 0.1
#: Multiplier of the seed in the order of the images.
_ORDER = 6151
#: Number of batches for the statistics of batch norms when the accuracy is evaluated.
_STATISTICS_BATCHES = 10


def check_prunable(context: Context) -> None:
    """Check that there are width groups, and that their narrowest widths meet the target.

    Raises:
        BudgetError: No widths on the lattice meet the target.
        ValueError: The search space has no width group.
    """
    if not context.traced.space.groups:
        raise ValueError("the search space has no width group: there is nothing to prune")
    predictor = context.predictor
    allocation.check_reachable(predictor.latency_ms, predictor.lattice, context.target_ms)


def dense_teacher(context: Context) -> nn.Module:
    """A copy of the dense network in eval mode, made before anything is attached to it: a later
    copy would be gated as well.
    """
    return copied(context.model).eval()


def pruning_phase(
    *, epochs: int, lr: float | None, momentum: float, weight_decay: float, schedule: Schedule
) -> Phase:
    """Options of the phase in which weights are trained and channels chosen."""
    return Phase(
        name=_PHASE,
        checkpoint=_PHASE,
        epochs=epochs,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        order=_ORDER,
        report_every=_REPORT_EVERY,
        loss_weight=_LOSS_WEIGHT,
    )


def run_training(context: Context, phase: Phase, callback: Callback, teacher: nn.Module) -> History:
    """Train the network of a method in place, with its callback, and return the history."""
    return Trainer(
        context.model,
        context.train,
        context.training,
        phase,
        teacher=teacher,
        callback=callback,
        progress=context.progress,
        evaluate=_evaluation(context),
        journal=context.journal,
    ).run()


def _evaluation(context: Context) -> Evaluate | None:
    """Quality of the gated network with statistics of batch norms that belong to its gates.

    The running means of training lag behind gates that close, and few steps hardly move them.
    """
    evaluate = context.evaluate
    if evaluate is None:
        return None

    def evaluated(model: nn.Module) -> float:
        twin = copied(model)
        with torch.random.fork_rng():
            recalibrate_batch_norm(
                twin, context.train, batches=_STATISTICS_BATCHES, seed=context.training.seed
            )
        return evaluate(twin.eval())

    return evaluated
