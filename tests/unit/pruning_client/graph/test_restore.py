from __future__ import annotations

import numpy as np
import torch

from pruning_client.graph.restore import restore
from pruning_client.graph.space import Traced
from pruning_client.graph.surgery import slim
from tests.support.tiny_networks import tiny_net

KEEP = [np.arange(0, 16, 2), np.arange(4, 16)]


def test_restored_weights_slim_to_the_same_network(traced: Traced) -> None:
    dense = tiny_net().eval()
    small = slim(dense, traced, KEEP)
    with torch.no_grad():
        for value in small.parameters():
            value.add_(0.1 * torch.randn_like(value))
    small.bn.running_mean += 0.5  # type: ignore[operator,union-attr]
    again = slim(restore(dense, traced, KEEP, small), traced, KEEP)
    assert small.state_dict().keys() == again.state_dict().keys()
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in small.state_dict().items()
    )
