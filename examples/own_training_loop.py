"""A training loop of one's own: own loss, optimiser, schedule and data loading, with the gates
called from inside it.

    python examples/own_training_loop.py --out runs/own-loop

Whoever has a training loop keeps it. Three lines are added for the joint training of weights and
gates: ``while gates.done < gates.steps``, ``+ gates.loss()`` and ``gates.step()``. Fine-tuning is
an ordinary loop over the small network, and what counts as quality is a function as well: here the
mean over the classes of each one's accuracy, for data in which some digits are rare.

Data: scikit-learn's 1,797 real 8x8 images of digits, half of the images of four digits taken away.
Takes about a minute after the latency predictor has been made; ``--quick`` does every part with
less of each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pruning_client import (
    Campaign,
    GateTraining,
    ProgressBars,
    Recipe,
    Training,
    WGates,
    embedded_service,
    print_report,
    prune,
)

CLASSES = 10
BATCH = 64
RARE = (1, 3, 7, 9)


class DigitsNet(nn.Module):
    """Four convolutions for 8x8 grey images, each with its norm."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c_in, c_out in ((1, 32), (32, 48), (48, 64), (64, 64)):
            layers += [
                nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(c_out),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def digits(seed: int) -> tuple[TensorDataset, TensorDataset]:
    """Training and held-out images [N, 1, 8, 8] in 0..1, with rare classes in the former."""
    data = load_digits()
    images = torch.from_numpy(data.images / 16).float()[:, None]
    labels = torch.from_numpy(data.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    held_out = order[:450]
    train = order[450:]
    rare = torch.isin(labels[train], torch.tensor(RARE))
    train = train[~rare | (torch.arange(len(train)) % 2 == 0)]
    return TensorDataset(images[train], labels[train]), TensorDataset(
        images[held_out], labels[held_out]
    )


class OwnTraining:
    """The user's own way of training, as it was before anything was to be pruned."""

    def __init__(self, train: TensorDataset, held_out: TensorDataset, *, epochs: int) -> None:
        self.loader = DataLoader(train, batch_size=BATCH, shuffle=True, drop_last=True)
        self.test = DataLoader(held_out, batch_size=256)
        self.epochs = epochs
        counts = torch.bincount(train.tensors[1], minlength=CLASSES)
        self.weights = counts.sum() / (CLASSES * counts)

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy with smoothed labels, in which every class weighs the same."""
        return F.cross_entropy(answers, labels, weight=self.weights, label_smoothing=0.05)

    def optimiser(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)

    def fit(self, model: nn.Module, lr: float = 3e-3) -> None:
        """An ordinary loop, for the dense network and for the pruned one."""
        optimiser = self.optimiser(model, lr)
        steps = self.epochs * len(self.loader)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)
        model.train()
        for _ in range(self.epochs):
            for images, labels in self.loader:
                optimiser.zero_grad()
                self.loss(model(images), labels).backward()
                optimiser.step()
                schedule.step()
        model.eval()

    def fit_with_gates(self, model: nn.Module, gates: GateTraining) -> None:
        """The same loop, with gates in training beside the weights."""
        optimiser = self.optimiser(model, 1e-3)
        batches = self._forever()
        while gates.done < gates.steps:
            images, labels = next(batches)
            optimiser.zero_grad()
            (self.loss(model(images), labels) + gates.loss()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            gates.step()

    @torch.no_grad()
    def quality(self, model: nn.Module) -> float:
        """Mean over the classes of each one's accuracy on held-out images, per cent."""
        was_training = model.training
        model.eval()
        right = torch.zeros(CLASSES)
        seen = torch.zeros(CLASSES)
        for images, labels in self.test:
            hits = model(images).argmax(1) == labels
            right += torch.bincount(labels, hits.float(), CLASSES)
            seen += torch.bincount(labels, minlength=CLASSES)
        model.train(was_training)
        return float((100 * right / seen).mean())

    def _forever(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader


def main() -> int:
    """Exit code 0 when the budget is met as measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/own-loop"))
    parser.add_argument(
        "--service", type=Path, help="where the service keeps its data; by default OUT/service"
    )
    parser.add_argument("--budget", default="60%")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="every part, with less of each: not for figures"
    )
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    train, held_out = digits(options.seed)
    training = OwnTraining(train, held_out, epochs=6 if options.quick else 20)
    model = DigitsNet()
    training.fit(model)
    print(f"The dense network: {training.quality(model):.2f} % (mean over the classes).")

    recipe = Recipe(
        loss=training.loss,
        train=training.fit_with_gates,
        evaluate=training.quality,
        finetune=lambda small, _dense: training.fit(small, 1e-3),
    )
    with (
        ProgressBars() as bars,
        embedded_service(options.service or options.out / "service") as service,
    ):
        result = prune(
            model,
            training.loader,
            val_data=training.test,
            budget=options.budget,
            target=service.device,
            client=service.client,
            out_dir=options.out,
            method=WGates(epochs=4 if options.quick else 15),
            training=Training(epochs=training.epochs, seed=options.seed, recipe=recipe),
            campaign=Campaign(architectures=20, repeats=2) if options.quick else Campaign(),
            progress=bars,
        )
    print_report(result.report)
    print(f"The pruned network: {training.quality(result.module):.2f} %.")
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main())
