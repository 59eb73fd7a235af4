from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pruning_client.data.model_fit import check_fit, input_channels
from pruning_client.data.sources import as_batches
from pruning_client.errors import DataError
from tests.support.tiny_networks import digits, tiny_net


def test_fitting_data_pass() -> None:
    check_fit(tiny_net(), as_batches(digits()))


@pytest.mark.parametrize(
    ("shape", "labels", "cause"),
    [
        ((4, 3, 8, 8), [0, 1, 2, 3], r"Images of shape 3x8x8 do not fit"),
        ((4, 1, 8, 8), [0, 1, 2, 10], r"Labels from 0 to 10 do not fit the model's 10 classes"),
        ((4, 1, 8, 8), [-1, 1, 2, 3], r"Labels from -1"),
        ((4, 1, 8, 8), [0.5, 1.0, 2.0, 3.0], r"Labels from"),
    ],
)
def test_data_that_do_not_fit(shape: tuple[int, ...], labels: list[float], cause: str) -> None:
    with pytest.raises(DataError, match=cause):
        check_fit(tiny_net(), as_batches((np.zeros(shape, np.float32), np.array(labels))))


def test_without_a_recipe_outputs_are_class_scores() -> None:
    class Boxes(torch.nn.Conv2d):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
            return [super().forward(x)]

    with pytest.raises(DataError, match=r"a list of a tensor .* not one score for each class"):
        check_fit(Boxes(1, 4, 3), as_batches(digits()))
    with pytest.raises(DataError, match=r"Labels of shape \[256\] do not fit scores"):
        check_fit(torch.nn.Conv2d(1, 10, 3), as_batches(digits()))
    assert check_fit(Boxes(1, 4, 3), as_batches(digits()), classes=False) is None


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([[1], [2], [3], [9]]),
        torch.tensor([1, -100, 3, 9]),
        torch.eye(10)[:4],
        torch.full((4, 10), 0.1),
    ],
)
def test_labels_in_the_usual_forms(labels: torch.Tensor) -> None:
    assert check_fit(tiny_net(), as_batches((torch.rand(4, 1, 8, 8), labels))) == 10


def test_all_labels_in_memory_are_checked() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    labels = torch.arange(600) % 4
    labels[500] = 9
    data = as_batches((torch.rand(600, 1, 4, 4), labels))
    with pytest.raises(DataError, match="Labels from 0 to 9 do not fit the model's 4 classes"):
        check_fit(model, data)


def test_the_label_that_the_loss_ignores_may_be_any() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    data = as_batches((torch.rand(8, 1, 4, 4), torch.arange(8) % 5 - 1))
    assert check_fit(model, data, ignored=-1) == 4
    with pytest.raises(DataError, match="from -1"):
        check_fit(model, data)


def test_shares_of_classes_may_have_any_precision() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    loader = DataLoader(TensorDataset(torch.rand(8, 1, 4, 4), torch.eye(4).double().repeat(2, 1)))
    assert check_fit(model, as_batches(loader)) == 4


def test_folders_that_are_no_classes_are_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "0.png")
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(DataError, match=r"\(the folders a, b, c\) do not fit"):
        check_fit(model, as_batches(tmp_path))


@pytest.mark.parametrize(("channels", "known"), [(1, 1), (3, 3), (12, None), (48, None)], ids=str)
def test_a_stem_that_rearranges_pixels_tells_nothing_of_the_image(
    channels: int, known: int | None
) -> None:
    assert input_channels(nn.Sequential(nn.Conv2d(channels, 8, 3))) == known
