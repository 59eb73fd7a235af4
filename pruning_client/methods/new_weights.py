"""New weights for a network that is trained from scratch."""

from __future__ import annotations

import torch
from torch import nn

from pruning_client.errors import UsageError
from pruning_client.training.batch_norm import batch_norms, is_frozen


def check_trainable_anew(model: nn.Module, otherwise: str) -> None:
    """Check that every parameter can be initialised anew and is trained.

    Args:
        otherwise: What to do where that is not wanted, for messages.

    Raises:
        UsageError: A module has parameters and no `reset_parameters`, or a parameter or batch norm
            is frozen.
    """
    frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
    if frozen or any(is_frozen(norm) for norm in batch_norms(model)):
        raise UsageError(
            f"Parts of the network are frozen ({frozen[0] if frozen else 'batch norms'}), so that "
            "it cannot be trained from new weights.",
            f"Unfreeze them (`requires_grad_(True)`, training mode), or {otherwise}.",
        )
    for name, module in model.named_modules():
        held = list(module.parameters(recurse=False))
        if held and not callable(getattr(module, "reset_parameters", None)):
            raise UsageError(
                f"The module {name or 'network'!r} ({type(module).__name__}) has parameters and no "
                "`reset_parameters`, so that they cannot be initialised anew.",
                f"Give it a method `reset_parameters`, as torch's layers have, or {otherwise}.",
            )


def reinitialise(model: nn.Module, seed: int) -> None:
    """Initialise parameters and statistics anew, in place, as torch's layers do by themselves
    (`reset_parameters`).

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
