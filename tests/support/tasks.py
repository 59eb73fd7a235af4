"""Small networks and data of tasks other than classification, in the shapes that users bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from pruning_client import Recipe
from pruning_client.training.metrics import Determination

IGNORED = 255
#: A recipe of a user's own.
RECIPE = Recipe(loss=F.mse_loss, metric=Determination)


def layer(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


class Segmenter(nn.Module):
    """Three classes for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(layer(3, 12), layer(12, 16, 2), layer(16, 16))
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.head(self.body(x)), size=x.shape[2:], mode="bilinear")


class Discs(Dataset[tuple[Tensor, Tensor]]):
    """Discs of two sizes on noise, with a row of pixels that do not count."""

    def __init__(self, count: int = 96, size: int = 24) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(index)
        radius = 3 + 3 * int(torch.randint(0, 2, (1,), generator=draw))
        row, column = torch.randint(7, self.size - 7, (2,), generator=draw)
        at = torch.arange(self.size)
        inside = ((at[:, None] - row) ** 2 + (at[None] - column) ** 2) < radius**2
        mask = inside.long() * (1 if radius < 5 else 2)
        image = 0.5 * torch.randn(3, self.size, self.size, generator=draw)
        image[0] += mask > 0
        image[1] += mask == 2
        mask[0] = IGNORED
        return image, mask


class Keypoints(nn.Module):
    """Coordinates of two points [B, 4] in pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(layer(1, 16, 2), layer(16, 24, 2), layer(24, 24, 2))
        self.fc = nn.Linear(24 * 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).flatten(1))


def points(count: int = 320) -> tuple[Tensor, Tensor]:
    """Images [N, 1, 16, 16] with a bright and a dark spot, and their coordinates [N, 4]."""
    draw = torch.Generator().manual_seed(0)
    places = torch.randint(3, 13, (count, 4), generator=draw)
    images = 0.1 * torch.randn(count, 1, 16, 16, generator=draw)
    for image, (a, b, c, d) in zip(images, places.tolist(), strict=True):
        image[0, a - 1 : a + 2, b - 1 : b + 2] += 1
        image[0, c - 1 : c + 2, d - 1 : d + 2] -= 1
    return images, places.float() * 14


class Siamese(nn.Module):
    """Whether two images show the same quarter: two inputs through one tower."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(layer(1, 12, 2), layer(12, 16, 2))
        self.fc = nn.Linear(16 * 4, 4)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.fc((self.tower(first) + self.tower(second)).flatten(1))


class Quarters(Dataset[Any]):
    """Which quarter of a noisy image is bright; `form` makes a sample of image and label."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any], count: int = 192) -> None:
        draw = torch.Generator().manual_seed(1)
        self.form = form
        self.labels = torch.randint(0, 4, (count,), generator=draw)
        self.images = 0.3 * torch.randn(count, 1, 8, 8, generator=draw)
        for image, label in zip(self.images, self.labels.tolist(), strict=True):
            row, column = 4 * (label // 2), 4 * (label % 2)
            image[:, row : row + 4, column : column + 4] += 1

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self.form(self.images[index], self.labels[index])


class QuarterNet(nn.Module):
    """One score for each quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(layer(1, 12, 2), layer(12, 16))
        self.fc = nn.Linear(16 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).flatten(1))


def quarters(form: Callable[[Tensor, Tensor], Any]) -> DataLoader[Any]:
    """A loader of `Quarters`."""
    return DataLoader(Quarters(form), batch_size=16, shuffle=True)
