"""Data in the forms that users bring: what their loaders and data sets yield."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from pruning_client.data.batch import Batch
from pruning_client.data.batches import LoaderBatches
from pruning_client.data.model_fit import forward_names
from pruning_client.data.samples import Samples
from pruning_client.data.sources import as_batches
from pruning_client.errors import DataError

COUNT = 24


class Pictures(Dataset[Any]):
    """Images [1, 4, 4] whose pixels are their number, made into samples by `form`."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        self.form = form

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, at: int) -> Any:
        return self.form(torch.full((1, 4, 4), float(at)), torch.tensor(at % 4))


def loader(form: Callable[[Tensor, Tensor], Any], **options: Any) -> DataLoader[Any]:
    return DataLoader(Pictures(form), batch_size=8, shuffle=True, **options)


def first(data: Any, **options: Any) -> Batch:
    return next(iter(as_batches(data, **options).ordered()))


@pytest.mark.parametrize(
    "form",
    [
        lambda image, label: (image, label),
        lambda image, label: (image, label.int()),
        lambda image, label: (image, label, "a.png"),
        lambda image, label: {"image": image, "label": label},
        lambda image, label: {"pixel_values": image, "labels": label, "path": "a.png"},
    ],
)
def test_samples_of_loaders_and_data_sets(form: Callable[[Tensor, Tensor], Any]) -> None:
    for data in (loader(form), Pictures(form)):
        batch = first(data, batch_size=8)
        assert batch.inputs[0].shape == (8, 1, 4, 4)
        assert batch.inputs[0][:, 0, 0, 0].tolist() == list(range(8))
        assert batch.target.dtype == torch.int64
        assert batch.target.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_keys_and_functions_pick_inputs_and_target() -> None:
    data = Pictures(lambda image, label: {"left": image, "right": -image, "depth": label})
    by_keys = first(Samples(data, inputs=("left", "right"), target="depth"))
    by_function = first(Samples(data, pick=lambda s: ((s["left"], s["right"]), s["depth"])))
    for batch in (by_keys, by_function):
        assert [x[5].flatten()[0].item() for x in batch.inputs] == [5, -5]
        assert batch.target[5] == 1
    with pytest.raises(DataError, match="'left', 'right', 'depth', without 'disparity'"):
        first(Samples(data, inputs="left", target="disparity"))
    with pytest.raises(DataError, match="none of the keys is one of image") as caught:
        first(data)
    assert "Samples(data, inputs=" in caught.value.cure


def test_inputs_in_a_dictionary_follow_the_forward_pass() -> None:
    class Siamese(nn.Module):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return first - second

    data = Pictures(lambda image, label: ({"second": image, "first": 2 * image}, label))
    names = forward_names(Siamese())
    assert names == ["first", "second"]
    assert [x[3].max().item() for x in first(data, names=names).inputs] == [6, 3]
    with pytest.raises(DataError, match="forward pass takes only"):
        first(data, names=["only"])


def test_tuples_are_several_inputs() -> None:
    batch = first(loader(lambda image, label: ((image, image + 1), label)))
    assert [x[0].max().item() for x in batch.inputs] == [0, 1]
    left, right = torch.rand(6, 1, 4, 4), torch.rand(6, 3, 4, 4)
    arrays = first(((left, right.numpy()), np.arange(6)))
    assert [tuple(x.shape) for x in arrays.inputs] == [(6, 1, 4, 4), (6, 3, 4, 4)]


def test_targets_of_any_structure_are_kept() -> None:
    boxes = [torch.rand(n, 5) for n in (1, 3, 2)]
    target = {"boxes": boxes, "sizes": torch.tensor([1, 2, 3]), "names": ["a", "b", "c"]}
    batch = Batch((torch.rand(3, 1, 4, 4),), target).to(torch.device("cpu"))
    assert [len(x) for x in batch.target["boxes"]] == [1, 3, 2]
    last = batch.part(slice(1, None))
    assert [len(x) for x in last.target["boxes"]] == [3, 2]
    assert last.target["sizes"].tolist() == [2, 3]
    assert last.target["names"] == ["b", "c"]
    assert [len(part) for part in batch.parts(2)] == [2, 1]
    masks = torch.randint(0, 3, (6, 4, 4))
    pair = first((torch.rand(6, 1, 4, 4), (masks, masks.flip(0))))
    assert torch.equal(pair.target[1], masks.flip(0))


def test_bytes_of_a_loader_become_zero_to_one_as_those_of_arrays_do() -> None:
    batch = first(loader(lambda image, label: ((10 * image).byte(), label)))
    assert batch.inputs[0].max().item() == pytest.approx(70 / 255)


def test_pil_images_of_a_data_set_become_tensors() -> None:
    """As the data sets of Hugging Face have them."""

    class Photographs(Dataset[Any]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, at: int) -> Any:
            return {"image": Image.new("RGB", (6, 4 + at), (255, 0, 51)), "label": at}

    batch = first(Samples(Photographs(), image_size=4))
    assert batch.inputs[0].shape == (3, 3, 4, 4)
    assert batch.inputs[0][0, :, 0, 0].tolist() == pytest.approx([1, 0, 0.2])
    assert batch.target.tolist() == [0, 1, 2]


class Balanced(Sampler[list[int]]):
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[0, 1], [2, 3], [4, 5]])


class Augmenting(Pictures):
    def __getitem__(self, at: int) -> Any:
        image, label = super().__getitem__(at)
        return image + torch.rand(()), label


@pytest.mark.parametrize(
    ("own", "cause"),
    [
        (
            DataLoader(Pictures(lambda image, label: (image, label)), batch_sampler=Balanced()),
            "a sampler of its own",
        ),
        (
            DataLoader(Augmenting(lambda image, label: (image, label)), shuffle=True),
            "would be augmented",
        ),
    ],
)
def test_loaders_that_cannot_be_split(own: DataLoader[Any], cause: str) -> None:
    batches = as_batches(own)
    assert len(next(iter(batches.shuffled(0)))) in (1, 2)
    with pytest.raises(DataError, match=cause) as caught:
        batches.split(0.2, 0)
    assert "val_data" in caught.value.cure


def test_held_out_samples_of_a_loader_are_all_evaluated() -> None:
    batches = as_batches(loader(lambda image, label: (image, label), drop_last=True))
    assert isinstance(batches, LoaderBatches)
    _, held_out = batches.split(0.5, 0)
    assert sum(len(batch) for batch in held_out.ordered()) == COUNT // 2


def test_a_sample_of_no_known_form() -> None:
    with pytest.raises(DataError, match=r"a tensor \[8, 1, 4, 4\], not pairs"):
        first(loader(lambda image, _: image))
    with pytest.raises(DataError, match="An input is a str, not a tensor"):
        first(Pictures(lambda _, label: ("a.png", label)))
