"""Physical removal: a copy of the model whose tensors are smaller."""

from __future__ import annotations

from torch import nn

from latency_service.spaces.plan import Keep
from pruning_client.graph import proof
from pruning_client.graph.errors import SurgeryError
from pruning_client.graph.removal import find_form
from pruning_client.graph.traced import Traced


def slim(model: nn.Module, traced: Traced, keep: Keep) -> nn.Module:
    """A copy of the model without the channels that are not kept, on the same device and in the
    same mode.

    It is of the model's own class, unless its forward pass holds channel counts as numbers: then it
    is a `torch.fx.GraphModule` of the traced graph with the same state_dict names, and without
    dropout.

    Args:
        model: the model that was traced, or one of the same structure with other weights.
        keep: for each width group the channels to keep, ascending [G][width].

    Raises:
        WidthsError: `keep` does not fit the space's groups.
        SurgeryError: no form of the smaller model computes what the search space says.
    """
    form = find_form(proof.redrawn(model), traced, keep)
    if isinstance(form, str):
        raise SurgeryError(
            f"{type(model).__name__} cannot be made smaller: {form}.",
            "If it is not the model that was traced, trace it with make_space and use what "
            "that returns.",
        )
    return form(model, traced, keep)
