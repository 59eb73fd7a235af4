"""Networks with random weights and their search spaces, traced once."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from pruning_client.graph.space import Traced, make_space
from tests.support import networks


@cache
def residual() -> tuple[nn.Module, Traced]:
    model = networks.randomised(networks.ResidualNet(widths=(8, 12), blocks=1))
    return model, make_space(model, torch.randn(1, 3, 8, 8), minimum=1)


@cache
def cifar() -> tuple[nn.Module, Traced]:
    model = networks.randomised(networks.CifarResNet(blocks=1, width=8))
    return model, make_space(model, torch.randn(1, 3, 16, 16), minimum=1)
