"""A small DCGAN that learns to make images like those of the user."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from pruning_client.data.batches import Batches
from pruning_client.execution import distributed
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods.base import Context
from pruning_client.training.checkpoint import (
    module_state,
    optimiser_state,
    restore_module,
    restore_optimiser,
)
from pruning_client.training.trainer import History, device_of

#: Number of random numbers that make an image.
NOISE = 128
#: Channels of the generator's last hidden layer; twice as many at half the resolution.
_WIDTH = 32
#: Longest side that is generated; larger images are interpolated.
_LONGEST_SIDE = 64
#: Shortest side of the first feature map.
_SMALLEST_SIDE = 4
_RATE = 2e-4
_BETAS = (0.5, 0.999)
_SLOPE = 0.2
#: Multiplier of the seed in the order of the images.
_ORDER = 3571
#: Batches from which the range of the images' values is taken.
_RANGE_BATCHES = 20
#: Side of the pooled images whose moments are compared.
_POOLED = 4
_PHASE = "train the knockoff generator"
_CHECKPOINT = "knockoff-generator"


class Generator(nn.Module):
    """Images from noise [B, NOISE].

    The layers are those of SCOP's public code for CIFAR: a linear layer, then transposed
    convolutions of 2x2 with stride 2, and a tanh. Widths, the number of doublings and the range of
    the values follow the images [ours].

    Args:
        size: Height and width of the images.
        low: Lowest value of each channel [C].
        high: Highest value of each channel [C].
    """

    low: Tensor
    high: Tensor

    def __init__(self, size: tuple[int, int], low: Tensor, high: Tensor) -> None:
        super().__init__()
        self._size = size
        doublings = _doublings(size)
        self._first = tuple(math.ceil(side / 2**doublings) for side in _generated(size))
        widths = [_WIDTH * 2**level for level in reversed(range(doublings))] or [_WIDTH]
        area = self._first[0] * self._first[1]
        self.linear = nn.Linear(NOISE, widths[0] * area)
        self.norm = nn.BatchNorm1d(widths[0] * area)
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [nn.ConvTranspose2d(wide, narrow, 2, 2), nn.BatchNorm2d(narrow), nn.ReLU()]
        scale = 2 if doublings else 1
        layers.append(nn.ConvTranspose2d(widths[-1], len(low), scale, scale))
        self.layers = nn.Sequential(*layers)
        self.register_buffer("low", low[:, None, None])
        self.register_buffer("high", high[:, None, None])

    def forward(self, noise: Tensor) -> Tensor:
        hidden = self.norm(self.linear(noise)).relu()
        values = self.layers(hidden.view(len(noise), -1, *self._first)).tanh()
        images: Tensor = self.low + (self.high - self.low) * (1 + values) / 2
        if images.shape[2:] == self._size:
            return images
        return F.interpolate(images, size=self._size, mode="bilinear")


class Discriminator(nn.Module):
    """How real images [B, C, H, W] look, as logits [B] [ours]."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self._generated = _generated(size)
        widths = [channels, *(_WIDTH * 2**level for level in range(max(1, _doublings(size))))]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(narrow, wide, 4, 2, 1)), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers)
        with torch.no_grad():
            found = self.layers(torch.zeros(1, channels, *self._generated))
        self.linear = spectral_norm(nn.Linear(found.numel(), 1))

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != self._generated:
            images = F.interpolate(images, size=self._generated, mode="bilinear")
        logits: Tensor = self.linear(self.layers(images).flatten(1))
        return logits.squeeze(1)


def train_generator(context: Context, steps: int) -> tuple[Generator, History]:
    """A generator trained on the images of the data, in eval mode, and its history.

    A checkpoint is saved after every pass over the data.
    """
    training = _GanTraining(context, steps)
    training.run()
    return training.generator.eval(), training.history


class _GanTraining:
    """Adversarial training with the non-saturating loss, as in DCGAN (Radford et al., 2016)."""

    def __init__(self, context: Context, steps: int) -> None:
        self.history: History = []
        self._context = context
        self._steps = steps
        self._done = 0
        device = device_of(context.model)
        channels, *size = context.traced.example[0].shape[1:]
        low, high = _range(context.train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.training.seed)
            self.generator = Generator((size[0], size[1]), low, high).to(device)
            self.discriminator = Discriminator(channels, (size[0], size[1])).to(device)
        self._makers = torch.optim.Adam(self.generator.parameters(), lr=_RATE, betas=_BETAS)
        self._judges = torch.optim.Adam(self.discriminator.parameters(), lr=_RATE, betas=_BETAS)

    def run(self) -> None:
        passes = math.ceil(self._steps / len(self._context.train))
        for number in range(self._resume(), passes):
            loss = 0.0
            for images in self._images(number):
                loss = self._step(images)
            distributed.average_buffers(self.generator)
            self._end_pass(images, loss)

    def _images(self, number: int) -> Iterator[Tensor]:
        """The images of a pass, up to the last step."""
        seed = self._context.training.seed * _ORDER + number
        left = min(self._steps - self._done, len(self._context.train))
        for batch in islice(self._context.train.shuffled(seed), left):
            yield batch.inputs[0]

    def _step(self, batch: Tensor) -> float:
        """One step of both networks; the generator's loss."""
        mine, weight = distributed.share(len(batch))
        real = batch[mine].to(device_of(self.generator))
        made = self.generator(self._noise(len(batch), mine).to(real.device))
        judged = F.softplus(-self.discriminator(real)) + F.softplus(
            self.discriminator(made.detach())
        )
        _descend(self._judges, self.discriminator, weight * judged.mean())
        loss = F.softplus(-self.discriminator(made)).mean()
        _descend(self._makers, self.generator, weight * loss)
        self._done += 1
        self._report(float(loss.detach()))
        return float(loss.detach())

    def _noise(self, count: int, mine: slice = slice(None)) -> Tensor:
        """Noise of this process's part of `count` images, and of two at least: batch norms need
        them.
        """
        seed = self._context.training.seed * _ORDER + self._done
        noise = torch.randn(count, NOISE, generator=torch.Generator().manual_seed(seed))[mine]
        return noise if len(noise) > 1 else noise.repeat(2, 1)

    def _report(self, loss: float) -> None:
        self._context.progress(
            ProgressEvent(
                phase=_PHASE,
                done=self._done,
                total=self._steps,
                unit="batches",
                figures={"loss": f"{loss:.3f}"},
            )
        )

    def _end_pass(self, images: Tensor, loss: float) -> None:
        with torch.no_grad():
            made = self.generator(self._noise(len(images)).to(device_of(self.generator)))
        distance = moment_distance(images, made.cpu())
        entry: dict[str, Any] = {"phase": _PHASE, "step": self._done, "loss": loss}
        self.history.append(entry | {"distance": distance})
        self._save()

    def _save(self) -> None:
        makers, maker_values = optimiser_state("makers", self._makers)
        judges, judge_values = optimiser_state("judges", self._judges)
        networks = module_state("generator", self.generator) | module_state(
            "discriminator", self.discriminator
        )
        values = {
            "done": self._done,
            "history": self.history,
            "makers": maker_values,
            "judges": judge_values,
        }
        self._context.shared.save(_CHECKPOINT, networks | makers | judges, values)

    def _resume(self) -> int:
        """Restore the checkpoint, if there is one, and return the next pass."""
        found = self._context.shared.load(_CHECKPOINT)
        if found is not None:
            tensors, values = found
            restore_module("generator", self.generator, tensors)
            restore_module("discriminator", self.discriminator, tensors)
            restore_optimiser("makers", self._makers, tensors, values["makers"])
            restore_optimiser("judges", self._judges, tensors, values["judges"])
            self._done = values["done"]
            self.history = values["history"]
        return math.ceil(self._done / len(self._context.train))


def moment_distance(real: Tensor, made: Tensor) -> float:
    """Distance between the means and covariances of images [B, C, H, W] pooled to 4x4 pixels, as
    a share of the real ones' second moments.
    """
    wanted = _moments(real)
    return float((_moments(made) - wanted).square().sum() / wanted.square().sum())


def _moments(images: Tensor) -> Tensor:
    """Means and covariances of all pixels of pooled images."""
    pixels = F.adaptive_avg_pool2d(images, _POOLED).flatten(1)
    return torch.cat([pixels.mean(0), torch.cov(pixels.T, correction=0).flatten()])


def _descend(optimiser: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    # gradients of the other network, which this loss passes through, are discarded by its own step
    loss.backward()  # type: ignore[no-untyped-call]
    distributed.average_gradients(network.parameters())
    optimiser.step()


def _range(data: Batches) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each channel [C] over a few batches."""
    lows = []
    highs = []
    for _, batch in zip(range(_RANGE_BATCHES), data.ordered(), strict=False):
        lows.append(batch.inputs[0].amin((0, 2, 3)))
        highs.append(batch.inputs[0].amax((0, 2, 3)))
    return torch.stack(lows).amin(0), torch.stack(highs).amax(0)


def _generated(size: tuple[int, int]) -> tuple[int, ...]:
    """Height and width of what is generated before it is interpolated."""
    doublings = _doublings(size)
    scale = min(1.0, _LONGEST_SIDE / max(size))
    return tuple(2**doublings * math.ceil(side * scale / 2**doublings) for side in size)


def _doublings(size: tuple[int, int]) -> int:
    """How often the resolution is doubled."""
    shortest = min(size) * min(1.0, _LONGEST_SIDE / max(size))
    return max(0, int(math.log2(max(1.0, shortest / _SMALLEST_SIDE))))
