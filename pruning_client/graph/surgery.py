"""Physical removal: a copy of the model whose tensors are smaller."""

from __future__ import annotations

import warnings

from torch import nn

from latency_service.spaces.plan import Keep
from pruning_client.errors import PruningWarning
from pruning_client.graph.errors import SurgeryError
from pruning_client.graph.lost import lost_in_graph
from pruning_client.graph.removal import Operation, draw_closed_twin, find_form, slim_graph
from pruning_client.graph.traced import Traced


def slim(model: nn.Module, traced: Traced, keep: Keep) -> nn.Module:
    """A copy of the model with only the channels to keep, on the same device and in the same mode.

    It has the model's own class, unless the forward pass hard-codes channel counts: then it is a
    `GraphNetwork` of the traced graph with the same state_dict names, or, where training mode
    returns other things, of the graphs of both modes. What else training mode does, such as
    drawing random numbers, is then lost, with a `PruningWarning`.

    Args:
        model: Traced model, or one of the same structure with other weights.
        keep: Channels to keep in each width group, ascending [G][width].

    Raises:
        WidthsError: `keep` does not fit the groups of the space.
        SurgeryError: No form of the smaller model has the outputs of the search space.
    """
    return cutter(model, traced, keep)(model, traced, keep)


def cutter(model: nn.Module, traced: Traced, keep: Keep) -> Operation:
    """The operation of `slim` that is proven for these channels, to make many smaller models of one
    network without a proof for each.

    Raises:
        WidthsError, SurgeryError: As `slim`.
    """
    traced.space.check_widths([len(channels) for channels in keep])
    closed = draw_closed_twin(model, traced, keep)
    form = closed if isinstance(closed, str) else find_form(closed, traced)
    if isinstance(form, str):
        raise SurgeryError(
            f"{type(model).__name__} cannot be made smaller: {form}.",
            "If it is not the traced model, trace it with make_space and pass the result.",
        )
    if form is slim_graph and (lost := lost_in_graph(model, traced)):
        warnings.warn(
            f"The forward pass of {type(model).__name__} holds channel counts, so that the smaller "
            f"network is a graph of it, which is trained without {'; '.join(lost)}. Take the "
            "counts from the shapes of tensors or weights to keep the class and all that it does.",
            PruningWarning,
            stacklevel=3,
        )
    return form
