"""First weights of a network, as before any training."""

from __future__ import annotations

import torch
from torch import nn

from pruning_client.training.batch_norm import is_frozen


def reinitialise(model: nn.Module, seed: int) -> None:
    """Draw new weights for every module that can (`reset_parameters`), in place.

    Frozen modules are kept, and so are parameters of modules without `reset_parameters`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset) and _is_trained(module):
                reset()


def _is_trained(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return not is_frozen(module) and any(parameter.requires_grad for parameter in own)
