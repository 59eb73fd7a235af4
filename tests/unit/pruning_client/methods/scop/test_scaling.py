"""Betas of planted channels: what the knockoff cannot replace rises, what it can does not."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pruning_client.data.batches import ImageBatches
from pruning_client.errors import UsageError
from pruning_client.graph.space import make_space
from pruning_client.methods.base import Context
from pruning_client.methods.scop import SCOP
from pruning_client.methods.scop.knockoffs import Inputs
from pruning_client.methods.scop.scaling import ControlledNetwork, train_betas
from pruning_client.training.config import Training
from pruning_client.training.hooks import GateTraining, OutputKind, Recipe
from tests.support import analytic
from tests.support.planted import NOISE, VITAL, Planted, images


@pytest.fixture
def context() -> Context:
    model = Planted().eval()
    traced = make_space(model, torch.zeros(2, 2, 4, 4), minimum=1)
    inputs, labels = images()
    predictor = analytic.predictor(traced.space)
    return Context(
        model=model,
        traced=traced,
        train=ImageBatches(
            inputs=(inputs,), target=labels, batch_size=64, index=torch.arange(len(labels))
        ),
        predictor=predictor,
        target_ms=0.5 * (predictor.sidecar.lowest_ms + predictor.sidecar.dense_ms),
    )


def other_images(inputs: Inputs, random: torch.Generator) -> Inputs:
    """The batch in another order: the same distribution, without the label."""
    return (inputs[0][torch.randperm(len(inputs[0]), generator=random)],)


def without_noise(inputs: Inputs, random: torch.Generator) -> Inputs:
    """The same, by a generator that has not learnt the noise."""
    (made,) = other_images(inputs, random)
    return (made * torch.tensor([1.0, 0.0])[:, None, None],)


def betas(context: Context, knockoffs: object) -> Tensor:
    network, _ = train_betas(context, knockoffs, epochs=12, lr=0.05)  # type: ignore[arg-type]
    return network.betas[0].detach()


def test_beta_rises_for_vital_channels_and_falls_for_noise(context: Context) -> None:
    found = betas(context, without_noise)
    assert float(found[VITAL].min()) > 0.9
    assert float(found[NOISE].max()) < 0.3


def test_noise_that_the_knockoffs_have_too_is_worth_nothing(context: Context) -> None:
    """A mean of two independent noises disturbs least: beta stays, and 2 beta - 1 is zero."""
    found = betas(context, other_images)
    assert float(found[VITAL].min()) > 0.9
    torch.testing.assert_close(found[NOISE], torch.full((4,), 0.5), atol=0.2, rtol=0)


@pytest.mark.parametrize("knockoffs", [other_images, without_noise, "gaussian"])
@pytest.mark.parametrize("allocator", ["uniform", "threshold", "greedy"])
def test_the_vital_channels_are_kept(knockoffs: object, allocator: str, context: Context) -> None:
    method = SCOP(epochs=6, lr=0.05, knockoffs=knockoffs, allocator=allocator)  # type: ignore[arg-type]
    assert method.run(context).keep[0].tolist() == VITAL


def test_the_network_is_left_alone(context: Context) -> None:
    """Weights, statistics of batch norms, modes and what is trained."""
    context.model.train()
    before = copy.deepcopy(context.model.state_dict())
    SCOP(epochs=1, knockoffs=other_images).run(context)
    assert context.model.training
    assert all(p.requires_grad and p.grad is None for p in context.model.parameters())
    for name, value in context.model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def loop(_model: torch.nn.Module, _gates: GateTraining) -> None:
    raise AssertionError


@pytest.mark.parametrize("outputs", ["classes", "values"])
def test_a_user_with_a_loop_of_their_own_needs_no_loss(
    context: Context, outputs: OutputKind
) -> None:
    """The outputs of the dense network take the place of the labels."""
    recipe = Recipe(
        loss=lambda _outputs, _target: torch.tensor(float("nan")), train=loop, outputs=outputs
    )
    made = replace(context, training=Training(recipe=recipe))
    SCOP().check(made)
    assert float(betas(made, other_images)[VITAL].min()) > 0.9


class _Auxiliary(Planted):
    """It has a second output in training mode."""

    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return (y, y) if self.training else y


def test_outputs_of_another_form_in_training_mode_cannot_be_imitated(context: Context) -> None:
    own = replace(context, model=_Auxiliary(), training=Training(recipe=Recipe(train=loop)))
    with pytest.raises(UsageError, match="another form in training mode"):
        SCOP().check(own)
    SCOP().check(replace(own, training=Training()))


def test_every_piece_and_step_has_random_numbers_of_its_own(context: Context) -> None:
    seeds: list[int] = []

    def noted(inputs: Inputs, random: torch.Generator) -> Inputs:
        seeds.append(random.initial_seed())
        return inputs

    for _ in range(2):
        network = ControlledNetwork(context.model, context.traced, noted, seed=3)
        for _ in range(2):
            network(*context.traced.example)
            network(*context.traced.example)
            network.end_step()
    assert len(set(seeds[:4])) == 4
    assert seeds[4:] == seeds[:4]
