"""Network families of the conformance test, and what is expected of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from pruning_client.graph.space import Traced, make_space
from tests.support import more_networks, networks

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "residual": networks.ResidualNet,
    "cifar-resnet": lambda: networks.CifarResNet(blocks=2),
    "vgg": networks.Vgg,
    "mobilenet-v2": networks.MobileNet,
    "mobilenet-v3": lambda: networks.MobileNet(excite=True),
    "densenet": more_networks.DenseNet,
    "inception": more_networks.Inception,
    "regnet": more_networks.RegNet,
    "unet": more_networks.UNet,
    "depth-multiplier": more_networks.DepthMultiplier,
    "pixel-shuffle": more_networks.SuperResolution,
    "chunk-and-slice": more_networks.GatedUnits,
    "shufflenet": more_networks.ShuffleNet,
    "convnext": more_networks.ConvNeXt,
    "used-twice": more_networks.UsedTwice,
    "two-streams": more_networks.TwoStreams,
    "hard-coded": more_networks.HardCoded,
    "awkward": more_networks.Awkward,
    "resnet-bottleneck": more_networks.BottleneckNet,
    "efficientnet": more_networks.EfficientNet,
}


#: groups and their widths; layers left at full width, each with a part of the reason
EXPECTED: dict[str, tuple[dict[str, int], dict[str, str]]] = {
    "residual": (
        {
            "conv1": 8,
            "layers.0.0.conv1": 8,
            "layers.0.1.conv1": 8,
            "layers.1.0.conv1": 16,
            "layers.1.0.conv2": 16,
            "layers.1.1.conv1": 16,
        },
        {"fc": "output"},
    ),
    "cifar-resnet": (
        {
            "conv1": 16,
            "layer1.0.conv1": 16,
            "layer1.1.conv1": 16,
            "layer2.0.conv1": 32,
            "layer2.0.conv2": 16,
            "layer2.1.conv1": 32,
            "layer3.0.conv1": 64,
            "layer3.0.conv2": 32,
            "layer3.1.conv1": 64,
        },
        {"linear": "output"},
    ),
    "vgg": (
        {"features.0.0": 12, "features.2.0": 16, "classifier.0": 24},
        {"classifier.3": "output"},
    ),
    "mobilenet-v2": (
        {
            "features.0.0": 8,
            "features.1.body.0": 16,
            "features.1.body.7": 12,
            "features.2.body.0": 36,
            "features.3.body.0": 36,
            "features.3.body.7": 16,
            "features.4.0": 32,
        },
        {"classifier": "output"},
    ),
    "mobilenet-v3": (
        {
            "features.0.0": 8,
            "features.1.body.0": 16,
            "features.1.body.6.reduce": 8,
            "features.1.body.7": 12,
            "features.2.body.0": 36,
            "features.2.body.6.reduce": 18,
            "features.3.body.0": 36,
            "features.3.body.6.reduce": 18,
            "features.3.body.7": 16,
            "features.4.0": 32,
        },
        {"classifier": "output"},
    ),
    "densenet": (
        {
            "stem": 8,
            "block1.0.conv1": 12,
            "block1.0.conv2": 6,
            "block1.1.conv1": 12,
            "block1.1.conv2": 6,
            "transition.2": 10,
            "block2.0.conv1": 12,
            "block2.0.conv2": 6,
            "block2.1.conv1": 12,
            "block2.1.conv2": 6,
        },
        {"classifier": "output"},
    ),
    "inception": (
        {
            "stem.0": 8,
            "blocks.0.one.0": 8,
            "blocks.0.three.0.0": 6,
            "blocks.0.three.1.0": 10,
            "blocks.0.pool.0": 6,
            "blocks.1.one.0": 8,
            "blocks.1.three.0.0": 6,
            "blocks.1.three.1.0": 10,
            "blocks.1.pool.0": 6,
        },
        {"fc": "output"},
    ),
    "regnet": ({"stem.0": 16, "bodies.0.0.0": 8, "bodies.1.0.0": 8}, {"fc": "output"}),
    "unet": (
        {
            "down1.0": 8,
            "down2.0": 12,
            "bottom.0": 16,
            "up2": 12,
            "merge2.0": 12,
            "up1": 8,
            "merge1.0": 8,
        },
        {"head": "output"},
    ),
    "depth-multiplier": ({"stem.0": 12, "point.0": 8}, {"fc": "output"}),
    "pixel-shuffle": ({"first.0": 12, "grow": 8, "back.0": 12}, {"last": "output"}),
    "chunk-and-slice": (
        {"stem.0": 24, "widen": 10, "widen#2": 6, "left.0": 8, "right.0": 8},
        {"fc": "output"},
    ),
    "shufflenet": (
        {
            "stem.0": 8,
            "stem.0#2": 8,
            "stem.0#3": 16,
            "units.0.branch.0.0": 16,
            "units.1.branch.0.0": 16,
            "last.0": 24,
        },
        {"fc": "output"},
    ),
    "convnext": (
        {"blocks.0.grow": 36, "blocks.1.grow": 36},
        {
            "stem": "normalised over",
            "blocks.0.depthwise": "normalised over",
            "blocks.0.shrink": "normalised over",
            "blocks.1.depthwise": "normalised over",
            "blocks.1.shrink": "normalised over",
            "head": "output",
        },
    ),
    "used-twice": ({"stem.0": 12, "last.0": 16}, {"fc": "output"}),
    "two-streams": ({"image.0": 12, "merged.0": 16}, {"fc": "output_0", "mask": "one channel"}),
    "hard-coded": ({"stem.0": 8, "mix.0": 24}, {"fc": "output"}),
    "awkward": (
        {"stem": 12, "conv": 16, "next": 4},
        {"squashed": "closing a gate", "last": "output"},
    ),
    "resnet-bottleneck": (
        {
            "stem.0.0": 8,
            "blocks.0.body.0.0": 6,
            "blocks.0.body.1.0": 6,
            "blocks.0.body.2": 24,
            "blocks.1.body.0.0": 6,
            "blocks.1.body.1.0": 6,
            "blocks.2.body.0.0": 10,
            "blocks.2.body.1.0": 10,
            "blocks.2.body.2": 40,
        },
        {"fc": "output"},
    ),
    "efficientnet": (
        {
            "stem.0": 8,
            "blocks.0.expand.0": 32,
            "blocks.0.squeeze.1": 4,
            "blocks.1.expand.0": 32,
            "blocks.1.squeeze.1": 4,
            "blocks.1.project.0": 12,
            "blocks.2.expand.0": 48,
            "blocks.2.squeeze.1": 4,
            "head.0": 32,
        },
        {"classifier.1": "output"},
    ),
}


@cache
def traced_family(name: str) -> tuple[nn.Module, Traced]:
    torch.manual_seed(0)
    model = networks.randomised(FAMILIES[name]())
    # groups of four and fewer channels are to lose some as well
    return model, make_space(model, more_networks.inputs_of(model), minimum=2)
