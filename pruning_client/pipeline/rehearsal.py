"""Everything that a job does to a network, once and on two samples, before a device is asked for
anything: what cannot end does not begin.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruning_client.data.batch import Batch, describe, summary
from pruning_client.errors import DataError, ModelError, PruningError, UsageError, first_line
from pruning_client.execution.copies import copied
from pruning_client.graph import comparison, proof
from pruning_client.graph.deploy import deployed
from pruning_client.graph.space import Traced, trace
from pruning_client.graph.surgery import slim
from pruning_client.training.batch_norm import train_mode
from pruning_client.training.config import Training
from pruning_client.training.losses import TrainingLoss
from pruning_client.training.optimiser import sgd
from pruning_client.training.precision import autocast, possible
from pruning_client.training.schedules import cosine, scheduler
from pruning_client.training.trainer import device_of


def rehearse(model: nn.Module, traced: Traced, batch: Batch, training: Training) -> None:
    """Take a training step with the dense and with a smaller network, and export the smaller one.

    The smaller one has random widths. The model is not changed.

    Args:
        batch: The first training samples: two of them are used, or all where the loss needs more.

    Raises:
        DataError: The first training step fails, or its loss is not finite.
        ModelError: The smaller network cannot be trained, brought into its deployed form or
            exported, or its outputs have another structure.
        UsageError: The recipe's loss is none, or its optimiser or schedule does not fit the loop.
    """
    own = _usable(model, batch.to(device_of(model)), training)
    small = slim(model, traced, proof.random_keep(traced.space))
    for training_mode in (True, False):
        _check_form(model, small, own, training_mode)
    _check_small_step(small, own, training)
    _check_optimiser(small, training)
    _check_export(small, traced)


def _usable(model: nn.Module, batch: Batch, training: Training) -> Batch:
    """Samples with which a training step works: two, or all for a loss that compares more."""
    few = batch.first(2)
    if training.micro_batch is not None:
        # the pieces of a batch: they may be cut wrongly, or be too small for a norm
        few = batch
    try:
        _check_step(copied(model), few, training)
    except DataError:
        if len(batch) <= len(few):
            raise
        _check_step(copied(model), batch, training)
        return batch
    return few


def _check_step(model: nn.Module, batch: Batch, training: Training) -> None:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(
            "No parameter of the network is trained.", "Let it train: `model.requires_grad_(True)`."
        )
    try:
        loss = _step(model, batch, training)
    except PruningError:
        raise
    except Exception as error:
        raise DataError(
            f"The first training step fails: {type(error).__name__}: {first_line(error)}.",
            f"The loss is given outputs that are {_outputs(model, batch)} and a target that is "
            f"{summary(batch.target)}: give a recipe with the loss of your task.",
        ) from error
    if not math.isfinite(loss):
        raise DataError(
            f"The loss of the first training step is {loss}.",
            "Look for values that are not finite in the data and in the weights.",
        )


def _check_small_step(model: nn.Module, batch: Batch, training: Training) -> None:
    try:
        _step(model, batch, training)
    except Exception as error:
        raise _untrainable(error) from error


def _step(model: nn.Module, batch: Batch, training: Training) -> float:
    """Loss of one step of the default loop; its gradients reach the weights.

    It is taken in every precision that the training may choose.
    """
    train_mode(model)
    if training.recipe.train is not None and training.recipe.finetune is not None:
        return 0.0
    loss_of = TrainingLoss(training=training)
    total = 0.0
    for precision in possible(training.precision, device_of(model)):
        for piece in batch.parts(training.micro_batch):
            with autocast(model, precision):
                outputs = model(*piece.inputs)
            loss = loss_of.of(outputs, piece, None)
            if not loss.requires_grad:
                raise DataError(
                    "The loss of the first training step has no gradient.",
                    "Compute it from the network's outputs themselves, not from detached values or "
                    "NumPy arrays; a network of your own must not run in `torch.no_grad`.",
                )
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    return total


def _check_optimiser(model: nn.Module, training: Training) -> None:
    """A step of the recipe's own optimiser and schedule, as the default loop calls them."""
    recipe = training.recipe
    if recipe.optimiser is None and recipe.schedule is None:
        return
    twin = copied(model)
    try:
        optimiser = (
            sgd(twin, 0.01, 0.9, 0.0) if recipe.optimiser is None else recipe.optimiser(twin)
        )
        schedule = scheduler(recipe, cosine, optimiser, 2)
        optimiser.step()
        schedule.step()
    except Exception as error:
        raise UsageError(
            f"The recipe's optimiser or schedule fails: {type(error).__name__}: "
            f"{first_line(error)}.",
            "`optimiser` is a function of the network that returns a torch optimiser, and "
            "`schedule` one of the optimiser and the number of steps that returns a scheduler; "
            "both are stepped after each batch, without arguments. Others need loops of your own: "
            "`Recipe(train=..., finetune=...)`.",
        ) from error


def _check_form(dense: nn.Module, small: nn.Module, batch: Batch, training_mode: bool) -> None:
    wanted = _form(dense, batch, training_mode)
    try:
        found = _form(small, batch, training_mode)
    except Exception as error:
        raise _untrainable(error) from error
    if wanted != found:
        mode = "training" if training_mode else "eval"
        raise ModelError(
            f"With some channels removed the network's outputs in {mode} mode have another "
            f"structure: {found} in place of {wanted}.",
            "Its forward pass holds channel counts, so that it is delivered as a graph: write it "
            "without the counts, or return plain tuples, lists and dictionaries.",
        )


def _form(model: nn.Module, batch: Batch, training_mode: bool) -> str:
    twin = copied(model)
    if training_mode:
        train_mode(twin)
    else:
        twin.eval()
    with torch.no_grad():
        outputs = twin(*batch.inputs)
    return str(pytree.tree_structure(_plain(outputs)))


def _plain(outputs: Any) -> Any:
    return pytree.tree_map_only(Tensor, lambda _: 0, outputs)


def _check_export(small: nn.Module, traced: Traced) -> None:
    model = copied(small).cpu().eval()
    form = model
    if traced.deployed is not None:
        form = deployed(model, traced.deployed.hook, traced.example, traced)
    exported = proof.run_onnx(trace(form, traced.example), traced.example)
    if not comparison.agree(exported, proof.run_torch(model, traced.example)):
        raise ModelError(
            "With some channels removed the exported file computes something else than the "
            "network.",
            "Report it with the network: this is a fault of the export.",
        )


def _untrainable(error: Exception) -> ModelError:
    return ModelError(
        f"With some channels removed the network cannot be trained: {type(error).__name__}: "
        f"{first_line(error)}.",
        "A part that works in training mode only has kept its width: give a network without it, "
        "or let it work in eval mode as well.",
    )


def _outputs(model: nn.Module, batch: Batch) -> str:
    with torch.no_grad():
        return describe(copied(model)(*batch.inputs))
