"""Weights that are not finite, answers no better than chance."""

from __future__ import annotations

import pytest
import torch

from pruning_client.data.sources import as_batches
from pruning_client.errors import TrainingFailed
from pruning_client.training.soundness import chance_of, check_finite
from tests.support.tiny_networks import tiny_net


class Always(torch.nn.Module):
    """Right with a probability, else the class 0."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(share))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        labels = x.flatten(1)[:, 0].long()
        random = torch.rand(len(x), generator=torch.Generator().manual_seed(0))
        return torch.eye(4)[torch.where(random < self.share, labels, 0)] * 1.0


@pytest.mark.parametrize(("share", "is_chance"), [(0.0, True), (0.01, True), (0.3, False)])
def test_chance_is_the_most_frequent_label(share: float, is_chance: bool) -> None:
    labels = torch.arange(400) % 4
    images = labels.float()[:, None, None, None].expand(-1, 1, 2, 2)
    found = chance_of(Always(share), as_batches((images, labels)))
    assert (found is not None) is is_chance
    if found is not None:
        assert found[1] == pytest.approx(25, abs=1)


def test_a_network_with_one_class_only_or_without_classes() -> None:
    images = torch.zeros(20, 1, 2, 2)
    assert chance_of(Always(1.0), as_batches((images, torch.zeros(20).long()))) is None
    assert chance_of(Always(1.0), as_batches((images, torch.rand(20, 4)))) is None


@pytest.mark.parametrize("name", ["fc.weight", "block.bn1.running_var"])
def test_the_tensor_that_is_not_finite_is_named(name: str) -> None:
    model = tiny_net()
    check_finite(model, "fine-tune")
    module, _, leaf = name.rpartition(".")
    getattr(model.get_submodule(module), leaf).data[0] = float("nan")
    with pytest.raises(TrainingFailed, match=f"After 'fine-tune' the tensor '{name}'"):
        check_finite(model, "fine-tune")
