"""Data in the forms that users bring: what their loaders and data sets yield."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from pruning_client.data import batches
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


class _Noisy(Dataset[Any]):
    """Images that differ each time, in the form that `wrap` makes of them."""

    def __init__(self, wrap: Callable[[np.ndarray], Any]) -> None:
        self.wrap = wrap

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, at: int) -> Any:
        pixels = np.random.default_rng().integers(0, 255, (4, 4), dtype=np.uint8)
        return self.wrap(pixels), at % 4


def _noise_in_batches(samples: list[Any]) -> Any:
    images = torch.stack([image for image, _ in samples])
    return images + torch.rand(()), torch.stack([label for _, label in samples])


@pytest.mark.parametrize(
    "own",
    [
        DataLoader(_Noisy(lambda pixels: pixels[None].astype(np.float32)), batch_size=8),
        DataLoader(_Noisy(lambda pixels: {"a": pixels[None]}), batch_size=8),
        _Noisy(Image.fromarray),
        loader(lambda image, label: (image, label), collate_fn=_noise_in_batches),
    ],
)
def test_augmentation_is_noticed_in_every_form(own: Any) -> None:
    with pytest.raises(DataError, match="returns other images each time"):
        as_batches(own, batch_size=8).split(0.25, 0)


def test_a_loader_without_a_batch_size_says_so() -> None:
    own = DataLoader(Pictures(lambda image, label: (image, label)), batch_size=None)
    with pytest.raises(DataError, match="it has no batch size"):
        as_batches(own).split(0.25, 0)


class _Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield torch.zeros(1, 2, 2), torch.tensor(0)


def test_data_without_a_length_or_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = as_batches(DataLoader(_Endless(), batch_size=8))
    with pytest.raises(DataError, match="no length"):
        len(endless)
    monkeypatch.setattr(batches, "_MOST_SAMPLES", 100)
    with pytest.raises(DataError, match="104 samples were not all"):
        list(endless.ordered())


def test_a_loader_without_a_batch_says_so() -> None:
    own = DataLoader(
        Pictures(lambda image, label: (image, label)), batch_size=COUNT + 1, drop_last=True
    )
    with pytest.raises(DataError, match="leaves out the last one"):
        len(as_batches(own))


def test_no_pass_for_training_ends_with_a_single_sample() -> None:
    own = as_batches(DataLoader(Pictures(lambda image, label: (image, label)), batch_size=23))
    assert [len(batch) for batch in own.shuffled(0)] == [23]
    assert len(own) == 1
    assert [len(batch) for batch in own.ordered()] == [23, 1]


def test_what_fails_in_a_data_set_is_named() -> None:
    own = as_batches(DataLoader(Pictures(lambda *_: 1 // 0), batch_size=8))
    with pytest.raises(DataError, match="Batch 1 of the data cannot be made: ZeroDivisionError"):
        list(own.ordered())
    ragged = as_batches(
        DataLoader(Pictures(lambda image, label: (image[:, : 1 + int(label)], label)), batch_size=8)
    )
    with pytest.raises(DataError, match="stack expects each tensor to be equal size"):
        list(ragged.ordered())


def test_grey_pictures_among_coloured_ones_get_the_channels_of_the_network() -> None:
    pictures = [
        (Image.new("L" if at == 5 else "RGB", (4, 4), 9 if at == 5 else (1, 2, 3)), at % 2)
        for at in range(8)
    ]
    found = first(pictures, batch_size=8, channels=3)
    assert found.inputs[0].shape == (8, 3, 4, 4)
    without_colours = [(Image.new("RGB", (4, 4), (at, at, at)), at % 2) for at in range(8)]
    grey = first(without_colours, batch_size=8, channels=1)
    assert grey.inputs[0].shape == (8, 1, 4, 4)
    with pytest.raises(DataError, match="equal size"):
        first(pictures, batch_size=8, channels=1)


def test_one_or_two_images_of_each_label_can_be_split() -> None:
    for each in (1, 2):
        labels = torch.arange(10).repeat(each)
        train, held_out = as_batches((torch.rand(10 * each, 1, 4, 4), labels)).split(0.2, 0)
        counts = [sum(len(batch) for batch in part.ordered()) for part in (train, held_out)]
        assert counts == [8 * each, 2 * each]
