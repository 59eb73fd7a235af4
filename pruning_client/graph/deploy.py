"""The deployed form of a network: what the user's hook makes of the trained one, such as one
convolution in place of the branches of a RepVGG block (Ding et al., 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latency_service.spaces.plan import expand
from pruning_client.errors import first_line
from pruning_client.execution.copies import copied
from pruning_client.graph import comparison, proof
from pruning_client.graph.errors import DeployError
from pruning_client.graph.export import tensors
from pruning_client.graph.modes import structure_of
from pruning_client.graph.traced import Deploy, Traced


def deployed(
    model: nn.Module, hook: Deploy, inputs: Sequence[Tensor], traced: Traced | None = None
) -> nn.Module:
    """The network to export: what the hook makes of a copy of the model, on the CPU in eval mode.

    Hooks often read channel counts that their class keeps as plain integers. Where the hook fails
    on a smaller network, it is tried with the counts that follow a width group corrected.

    Args:
        inputs: Inputs [B, ...] on which both forms must compute the same.
        traced: Trace of the dense network, if the model is a smaller one.

    Raises:
        DeployError: The hook fails or returns no module, or the outputs of its network differ; the
            message names the module where they begin to.
    """
    whole = copied(model).cpu().eval()
    try:
        return _deployed(whole, copied(whole), hook, inputs)
    except DeployError:
        corrected = copied(whole)
        if traced is None or not _correct_counts(corrected, traced):
            raise
    return _deployed(whole, corrected, hook, inputs)


def fused(twin: nn.Module, hook: Deploy) -> nn.Module:
    """What the hook makes of a network in eval mode, which it may change.

    Raises:
        DeployError: The hook fails or returns no module.
    """
    kind = type(twin).__name__
    try:
        with torch.no_grad():
            found: Any = hook(twin)
    except Exception as error:
        raise _failing(twin, hook, error) from error
    made = twin if found is None else found
    if not isinstance(made, nn.Module):
        raise DeployError(
            f"The deploy hook {hook_name(hook)!r} returns {type(made).__name__} for {kind}.",
            "Return the torch module to export, or None if the given one was changed in place.",
        )
    return made.eval()


def hook_name(hook: Deploy) -> str:
    """What to call a hook in messages."""
    return getattr(hook, "__qualname__", type(hook).__name__)


def _deployed(
    model: nn.Module, twin: nn.Module, hook: Deploy, inputs: Sequence[Tensor]
) -> nn.Module:
    made = fused(twin, hook)
    try:
        with torch.no_grad():
            outputs = made(*inputs)
    except Exception as error:
        raise _failing(model, hook, error) from error
    with torch.no_grad():
        same_form = structure_of(model(*inputs)) == structure_of(outputs)
    if not same_form or not comparison.agree(
        proof.run_torch(model, inputs), proof.run_torch(made, inputs)
    ):
        raise DeployError(
            f"The deployed form of {type(model).__name__} computes something else than the "
            f"network, from {_first_difference(model, made, inputs)} on.",
            "Correct the deploy hook: both forms must have the same outputs in eval mode, within "
            f"{comparison.TOLERANCE:g} of the largest.",
        )
    return made


def _failing(model: nn.Module, hook: Deploy, error: Exception) -> DeployError:
    return DeployError(
        f"The deploy hook {hook_name(hook)!r} fails on {type(model).__name__}: "
        f"{type(error).__name__}: {first_line(error)}.",
        "It is given the trained network, whose layers may have fewer channels than the dense "
        "one's: let it take their number from the weights, and return the network to export, "
        "or None if it has changed the given one.",
    )


def _correct_counts(small: nn.Module, traced: Traced) -> bool:
    """Set integers of the user's own modules that are the dense lengths of axes that follow a width
    group to the new lengths, where these are not ambiguous; whether there are any.
    """
    own = dict(tensors(small))
    lengths = [
        (
            entry.initializer,
            len(expand(entry.segments)[0]),
            own[entry.initializer].shape[entry.axis],
        )
        for _, graph in traced.modes
        for entry in graph.space.manifest.slices
        if entry.initializer in own
    ]
    changed = False
    for path, module in small.named_modules():
        if type(module).__module__.startswith("torch."):
            continue
        prefix = f"{path}." if path else ""
        new: dict[int, set[int]] = {}
        for name, dense, length in lengths:
            if name.startswith(prefix):
                new.setdefault(dense, set()).add(length)
        for name, value in vars(module).items():
            if type(value) is int and len(new.get(value, ())) == 1:
                setattr(module, name, *new[value])
                changed = True
    return changed


def _first_difference(model: nn.Module, made: nn.Module, inputs: Sequence[Tensor]) -> str:
    """The first module whose inputs are the same in both networks and whose outputs are not."""
    wanted, found = (_recorded(network, inputs) for network in (model, made))
    modules = dict(model.named_modules())
    for name, (given, outputs) in wanted.items():
        if not name or name not in found:
            continue
        others, made_outputs = found[name]
        if comparison.agree(given, others) and not comparison.agree(outputs, made_outputs):
            return f"module {name!r} ({type(modules[name]).__name__})"
    return f"{type(model).__name__}.forward"


def _recorded(
    model: nn.Module, inputs: Sequence[Tensor]
) -> dict[str, tuple[comparison.Arrays, comparison.Arrays]]:
    """Inputs and outputs of each module's first call, in the order in which the calls end."""
    found: dict[str, tuple[comparison.Arrays, comparison.Arrays]] = {}

    def record(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, given: Any, output: Any) -> None:
            # copies, since an operation in place may follow
            own = tuple([x.copy() for x in proof.arrays(values)] for values in (given, output))
            found.setdefault(name, (own[0], own[1]))

        return hook

    hooks = [module.register_forward_hook(record(name)) for name, module in model.named_modules()]
    try:
        proof.run_torch(model, inputs)
    finally:
        for handle in hooks:
            handle.remove()
    return found
