"""ResNet-56 with published weights, fine-tuned on given CIFAR-10 images and pruned to a latency
budget.

    python examples/cifar_resnet56.py --weights resnet56-cifar10.safetensors \\
        --train cifar10-train.parquet --test cifar10-test.parquet --budget 60% --out runs/resnet56

Weights: the CIFAR ResNet-56 of He et al. with shortcuts without parameters (stride 2 and zero
padding of the channels, "option A"), as trained by akamaster/pytorch_resnet_cifar10 (BSD-2-Clause),
in one safetensors file with the names of that repository. Images: Parquet with the columns `image`
and `label`, as Hugging Face's cifar10 has it. The padding shortcuts tie parts of two stages'
channels together, which dependency graphs of module trees get wrong.

With a GPU this takes some minutes; on two cores use fewer images (``--images 5000``, about an
hour). ``--quick`` does every part with next to nothing of each, in about a minute.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from pyarrow.parquet import read_metadata
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

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

#: Normalisation that the weights were trained with (ImageNet's).
MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


class Block(nn.Module):
    """Two 3x3 convolutions; where the shape changes, the shortcut takes every other pixel and pads
    zero channels.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride = stride
        self.padded = (c_out - c_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.padded:
            x = F.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padded, self.padded)
            )
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """6 n + 2 layers in three stages of n blocks, for 32x32 images."""

    def __init__(self, blocks: int = 9) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(c_in: int, c_out: int, blocks: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            Block(c_in, c_out, stride), *(Block(c_out, c_out, 1) for _ in range(blocks - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(y.mean((2, 3)))


class Augmented(Dataset[tuple[Tensor, int]]):
    """Images [N, 3, 32, 32] uint8, normalised; in training mirrored at random and moved by up to 4
    pixels.
    """

    def __init__(self, images: Tensor, labels: Tensor, *, augment: bool) -> None:
        self.images = images
        self.labels = labels
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        image = (self.images[at].float() / 255 - MEAN) / STD
        if self.augment:
            x, y, mirrored = (int(torch.randint(n, ())) for n in (9, 9, 2))
            image = F.pad(image, (4, 4, 4, 4))[:, y : y + 32, x : x + 32]
            image = image.flip(2) if mirrored else image
        return image, int(self.labels[at])


def load_images(path: Path, count: int, *, augment: bool) -> DataLoader[tuple[Tensor, int]]:
    """Up to `count` images of a Parquet file, every label alike."""
    batches = as_batches(path)
    whole = read_metadata(path).num_rows
    part = batches.split(count / whole, 0)[1] if count < whole else batches
    read = list(part.ordered())
    images = (255 * torch.cat([batch.inputs[0] for batch in read])).round().to(torch.uint8)
    dataset = Augmented(images, torch.cat([batch.target for batch in read]), augment=augment)
    return DataLoader(dataset, batch_size=128, shuffle=augment, drop_last=augment)


def main() -> int:
    """Exit code 0 when the budget is met as measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", type=Path, required=True, help="safetensors file of the dense network"
    )
    parser.add_argument("--train", type=Path, required=True, help="Parquet file of training images")
    parser.add_argument("--test", type=Path, required=True, help="Parquet file of test images")
    parser.add_argument("--out", type=Path, default=Path("runs/resnet56"))
    parser.add_argument(
        "--service", type=Path, help="where the service keeps its data; by default OUT/service"
    )
    parser.add_argument("--budget", default="60%")
    parser.add_argument("--images", type=int, default=50000, help="training images to use")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="every part, with next to nothing of each"
    )
    options = parser.parse_args()
    quick = options.quick

    train = load_images(options.train, 256 if quick else options.images, augment=True)
    test = load_images(options.test, 200 if quick else 10000, augment=False)
    model = CifarResNet()
    model.load_state_dict(load_file(options.weights))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    print(f"As published: {accuracy(model, as_batches(test)):.2f} % of these test images.")

    with ProgressBars() as bars:
        adapt = Training(epochs=1 if quick else 10, lr=0.005 if quick else 0.02, seed=options.seed)
        finetune(
            model,
            as_batches(train),
            adapt,
            progress=bars,
            phase="adapt the dense network",
        )
    with (
        ProgressBars() as bars,
        embedded_service(options.service or options.out / "service") as service,
    ):
        result = prune(
            model,
            train,
            val_data=test,
            budget=options.budget,
            target=service.device,
            client=service.client,
            out_dir=options.out,
            method=WGates(epochs=2 if quick else 20),
            training=Training(epochs=1 if quick else 40, seed=options.seed),
            campaign=Campaign(architectures=20, repeats=2) if quick else Campaign(),
            progress=bars,
        )
    print_report(result.report)
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main())
