"""Data larger than memory: start, memory and images per second of a folder of JPEGs, and what
augmentation brings.

The folder has 200,000 files of 224x224 pixels in a hundred class folders: links to two thousand
made pictures. The plain loader beside ours is what tutorials write: a `Dataset` of paths, Pillow, a
random resized crop, a flip, and a `DataLoader` with as many workers. The two are timed in turn.

``--data FOLDER`` holds ``cifar10-train.parquet`` and ``cifar10-test.parquet``: a small ResNet is
trained on them with and without augmentation, for the same number of steps.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.support.contest import NETWORKS
from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.networks import ResNet
from pruning_client.data.file_batches import FileBatches
from pruning_client.data.files import ImageFiles
from pruning_client.data.sources import as_batches
from pruning_client.training.config import Training
from pruning_client.training.metrics import accuracy
from pruning_client.training.trainer import finetune

_SIDE = 224
_CLASSES = 100
_BATCH = 64
_WORKERS = 2
_TURNS = 5
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def run(quick: bool, data: Path | None = None) -> Outcome:
    """Time and memory of a made folder; the accuracy only with `data`."""
    count = 4000 if quick else 200_000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _make(folder, count, pictures=100 if quick else 2000)
        found = _loading(folder, batches=4 if quick else 20)
    bars = [
        at_most("seconds to the first batch", found["first_batch_seconds"], 60, "s"),
        at_most("memory of all processes", found["memory_gb"], 4, "GB"),
        at_least("images per second, by the plain loader's", found["ratio"], 0.9, "x"),
    ]
    if data is not None:
        found["accuracy"] = _accuracies(data, quick)
        bars.append(_better(found["accuracy"]))
    return Outcome(bars=bars, data={"images": count, **found})


def _make(folder: Path, count: int, pictures: int) -> None:
    """Pictures with structure at several scales, so that decoding takes what it takes."""
    rng = np.random.default_rng(0)
    originals = folder / ".originals"
    originals.mkdir()
    for number in range(pictures):
        layers = [
            np.asarray(
                Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize(
                    (_SIDE, _SIDE), Image.Resampling.BICUBIC
                ),
                dtype=np.float32,
            )
            for n in (4, 16, 64)
        ]
        mixed = 0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2]
        Image.fromarray(mixed.astype(np.uint8)).save(originals / f"{number}.jpg", quality=90)
    for label in range(_CLASSES):
        (folder / f"class-{label:03}").mkdir()
    for number in range(count):
        name = folder / f"class-{number % _CLASSES:03}" / f"{number:06}.jpg"
        os.link(originals / f"{number % pictures}.jpg", name)


def _loading(folder: Path, batches: int) -> dict[str, Any]:
    begun = time.perf_counter()
    ours = as_batches(
        ImageFiles(path=folder, image_size=_SIDE, mean=_MEAN, std=_STD, workers=_WORKERS),
        batch_size=_BATCH,
    )
    next(iter(ours.shuffled(0)))
    first = time.perf_counter() - begun
    plain = DataLoader(_Plain(folder), batch_size=_BATCH, shuffle=True, num_workers=_WORKERS)
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    memory = 0.0
    for turn in range(_TURNS):
        rate, used = _rate(ours.shuffled(turn), batches)
        memory = max(memory, used)
        rates["ours"].append(rate)
        rates["plain"].append(_rate(plain, batches)[0])
    ratios = [a / b for a, b in zip(rates["ours"], rates["plain"], strict=True)]
    return {
        "first_batch_seconds": first,
        "memory_gb": memory,
        "ratio": statistics.median(ratios),
        "images_per_second": rates,
        "workers": _WORKERS,
    }


def _rate(batches: Iterable[Any], count: int) -> tuple[float, float]:
    """Images per second after the first batch, and memory of all processes, GB."""
    found = iter(batches)
    next(found)
    begun = time.perf_counter()
    for _ in range(count):
        next(found)
    seconds = time.perf_counter() - begun
    return count * _BATCH / seconds, _memory_gb()


def _memory_gb() -> float:
    """Memory of this process and its workers, shared pages counted once."""
    own = psutil.Process()
    processes = [own, *own.children(recursive=True)]
    return sum(process.memory_full_info().pss for process in processes) / 1e9


class _Plain(Dataset[tuple[Tensor, int]]):
    """The loader of a tutorial."""

    def __init__(self, folder: Path) -> None:
        classes = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        self.files = [
            (str(path), label)
            for label, name in enumerate(classes)
            for path in sorted((folder / name).iterdir())
        ]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        path, label = self.files[at]
        image = Image.open(path).convert("RGB")
        side = _SIDE * random.uniform(0.25, 1) ** 0.5
        left, upper = (random.uniform(0, _SIDE - side) for _ in range(2))
        box = (left, upper, left + side, upper + side)
        image = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=box)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (x - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None], label


def _accuracies(folder: Path, quick: bool) -> dict[str, float]:
    """Test accuracy with and without augmentation, per cent."""
    train, test = (
        _part(as_batches(ImageFiles(path=folder / f"cifar10-{part}.parquet")), count)
        for part, count in (("train", 500 if quick else 10_000), ("test", 500 if quick else 5000))
    )
    found = {}
    for augment in (True, False):
        torch.manual_seed(0)
        network = ResNet((NETWORKS["resnet8"],) * 3, (16, 32, 64), classes=10, stem=3, padding=True)
        training = Training(epochs=1 if quick else 20, lr=0.1, weight_decay=5e-4)
        finetune(network, replace(train, augment=augment), training)
        found["augmented" if augment else "plain"] = accuracy(network, test)
    return found


def _part(batches: Any, count: int) -> FileBatches:
    part = batches.split(count / len(batches.index), 0)[1]
    assert isinstance(part, FileBatches)
    return part


def _better(found: dict[str, float]) -> Bar:
    gain = found["augmented"] - found["plain"]
    return at_least("accuracy with augmentation above that without", gain, 0, "points")
