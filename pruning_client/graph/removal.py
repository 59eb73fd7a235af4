"""Two forms of a smaller model, and the check that a removal is correct."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from onnx import ModelProto
from torch import Tensor, nn

from latency_service.core.arrays import Ints
from latency_service.spaces.plan import Keep
from latency_service.spaces.schemas import Segment
from latency_service.spaces.slicing import kept_positions, materialise
from pruning_client.graph import proof
from pruning_client.graph.export import tensors
from pruning_client.graph.modes import WithoutDropout, put_into_mode
from pruning_client.graph.network import make_network
from pruning_client.graph.traced import GraphForm, Traced
from pruning_client.graph.two_modes import TwoModes

#: Fault of a graph in which zeros of a closed gate do not stay zeros.
LEAK = "closing a gate is not the same as removing the channel"

#: Maximum number of twins, if gates change no output of those before.
TWINS = 4
#: Number of draws of random weights that are tried for a twin.
_DRAWS = 3

Operation = Callable[[nn.Module, Traced, Keep], nn.Module]


def redrawn_twin(model: nn.Module, traced: Traced, keep: Keep) -> proof.Twin | str:
    """A copy of the model with random weights with which a removal can be proven, or why there is
    none: the dense network must compute the same in torch and in the graph.

    Of several draws it is the one whose outputs depend on most of the width groups.

    Args:
        keep: Channels that stay.
    """
    dense = traced.modes[0][1]
    best: tuple[int, proof.Twin] | None = None
    seed = 0
    for _ in range(TWINS):
        twin, fault = draw_proven_twin(model, dense, traced.example, seed)
        if fault is not None:
            return fault if best is None else best[1]
        silent = proof.silent_groups(twin.model, traced.gates, keep, traced.example)
        if best is None or len(silent) < best[0]:
            best = (len(silent), twin)
        if not silent:
            break
        seed = twin.seed + 1
    assert best is not None, "at least one twin is drawn"
    return best[1]


def draw_proven_twin(
    model: nn.Module, dense: GraphForm, example: tuple[Tensor, ...], first_seed: int = 0
) -> tuple[proof.Twin, str | None]:
    """A twin of the model, and why no removal can be proven with it.

    Args:
        dense: Graph of eval mode, used at full width.
        example: Inputs [B, ...] on the CPU.
        first_seed: Seed of the first draw.
    """
    for seed in range(first_seed, first_seed + _DRAWS):
        twin = proof.draw_twin(model, example, seed)
        weights = proof.weights_of(twin.model, dense.weights)
        graph = materialise(dense.space, dense.space.full_widths, weights=weights)
        try:
            found = proof.run_onnx(graph, example)
        except Exception as error:  # noqa: BLE001 the runtime refuses a wrong graph in many ways
            return twin, f"the exported graph of the whole network does not run: {error}"
        proven = twin.proven(found)
        if proven is not None:
            return proven, None
    fault = (
        f"with none of {_DRAWS} draws of random weights the whole network and its exported graph "
        "compute the same, so that nothing can be proven by them"
    )
    return twin, fault


def removal_fault(twin: proof.Twin, traced: Traced, keep: Keep) -> str | None:
    """Reason why channels cannot be removed from a model with random weights, or None."""
    form = find_form(twin, traced, keep)
    return form if isinstance(form, str) else None


def find_form(twin: proof.Twin, traced: Traced, keep: Keep) -> Operation | str:
    """Form of the smaller model whose outputs equal those of closed gates, or why there is none.

    Args:
        twin: What is compared.

    Raises:
        WidthsError: `keep` does not fit the space's groups.
    """
    wanted = []
    for training, graph in traced.modes:
        smaller = _smaller(twin.model, graph, keep)
        try:
            wanted.append(proof.run_onnx(smaller, traced.example))
        except Exception as error:  # noqa: BLE001 the runtime refuses a wrong graph in many ways
            return f"the graph does not run without them: {error}"
        with (
            proof.gated(twin.model, traced.gates, keep) as gated,
            _in_mode(gated, training=training),
        ):
            if not twin.agree(wanted[-1], proof.run_torch(gated, traced.example)):
                return LEAK
    for form in _FORMS:
        if _works(form, twin, traced, keep, wanted):
            return form
    return "the forward pass holds their number, and a smaller form of it computes something else"


def _smaller(model: nn.Module, graph: GraphForm, keep: Keep) -> ModelProto:
    """The graph of the smaller model, with the weights of `model` at the channels to keep."""
    widths = [len(channels) for channels in keep]
    weights = proof.weights_of(model, graph.weights)
    return materialise(graph.space, widths, keep=keep, weights=weights)


@contextlib.contextmanager
def _in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    put_into_mode(model, training=training)
    try:
        with WithoutDropout():
            yield
    finally:
        model.eval()


def _works(
    form: Operation, twin: proof.Twin, traced: Traced, keep: Keep, wanted: list[proof.Arrays]
) -> bool:
    try:
        small = form(twin.model, traced, keep)
        found = []
        for training, _ in traced.modes:
            with _in_mode(small, training=training):
                found.append(proof.run_torch(small, traced.example))
        return all(twin.agree(a, b) for a, b in zip(wanted, found, strict=True))
    except Exception:  # noqa: BLE001 the user's forward pass may fail in any way on other shapes
        return False


def slim_modules(model: nn.Module, traced: Traced, keep: Keep) -> nn.Module:
    """The model's own class with smaller modules, for a forward pass without channel counts."""
    small = _with_smaller_tensors(model, traced, keep)
    correct_bare_norms(small, traced)
    return small


def _with_smaller_tensors(model: nn.Module, traced: Traced, keep: Keep) -> nn.Module:
    return with_tensors_at(model, traced, lambda segments: kept_positions(segments, keep))


def with_tensors_at(
    model: nn.Module, traced: Traced, positions: Callable[[Sequence[Segment]], Ints]
) -> nn.Module:
    """A copy of the model whose tensors have other positions on the axes of width groups, and
    modules whose attributes fit them.

    Args:
        positions: Positions to take, given the segments of an axis; one may be taken again.
    """
    small = copy.deepcopy(model)
    names: dict[int, list[str]] = {}
    for name, value in tensors(small):
        names.setdefault(id(value), []).append(name)
    by_name = dict(tensors(small))
    cuts: dict[str, dict[int, Ints]] = {}
    for _, graph in traced.modes:
        for entry in graph.space.manifest.slices:
            if entry.initializer in by_name:
                cuts.setdefault(entry.initializer, {})[entry.axis] = positions(entry.segments)
    for name, axes in cuts.items():
        value = by_name[name]
        smaller = _select(value, axes.items())
        for alias in names[id(value)]:
            _replace(small, alias, smaller)
    for module in small.modules():
        _correct(module)
    return small


def _select(value: Tensor, axes: Iterable[tuple[int, Ints]]) -> Tensor:
    chosen = value.detach()
    for axis, index in axes:
        chosen = chosen.index_select(axis, torch.as_tensor(index, device=value.device))
    channels_last = not value.is_contiguous() and value.is_contiguous(
        memory_format=torch.channels_last
    )
    chosen = chosen.clone(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    return nn.Parameter(chosen, value.requires_grad) if isinstance(value, nn.Parameter) else chosen


def _replace(model: nn.Module, name: str, value: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, value)


def _correct(module: nn.Module) -> None:
    """Update a module's attributes to the shapes of its tensors."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        per_group = module.out_channels // module.groups
        module.groups = module.groups if module.groups == 1 else module.weight.shape[0] // per_group
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        per_group = module.in_channels // module.groups
        module.groups = module.groups if module.groups == 1 else module.weight.shape[0] // per_group
        module.in_channels = module.weight.shape[0]
        module.out_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        held = next((t for t in (module.weight, module.running_mean) if t is not None), None)
        module.num_features = module.num_features if held is None else len(held)
    elif isinstance(module, nn.GroupNorm) and module.weight is not None:
        per_group = module.num_channels // module.num_groups
        module.num_channels = len(module.weight)
        module.num_groups = module.num_channels // per_group
    elif isinstance(module, nn.RNNBase):
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)


def correct_bare_norms(model: nn.Module, traced: Traced) -> None:
    """Update norms without tensors to the channels that reach them."""
    bare = [module for module in model.modules() if _is_bare_norm(module)]
    if not bare:
        return
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    modes = {module: module.training for module in model.modules()}
    hooks = [module.register_forward_pre_hook(_adopt_channels) for module in bare]
    try:
        for training, _ in traced.modes:
            with torch.no_grad(), _in_mode(model, training=training):
                model(*(x.to(device) for x in traced.example))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training


def _is_bare_norm(module: nn.Module) -> bool:
    norms = (nn.GroupNorm, nn.modules.batchnorm._NormBase)
    tensors_held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return isinstance(module, norms) and not tensors_held


def _adopt_channels(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    channels = inputs[0].shape[1]
    if isinstance(module, nn.GroupNorm):
        per_group = module.num_channels // module.num_groups
        module.num_channels = channels
        module.num_groups = channels // per_group
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        module.num_features = channels


def slim_graph(model: nn.Module, traced: Traced, keep: Keep) -> nn.Module:
    """The traced graphs as a module with updated shapes, for a forward pass with channel counts."""
    small = _with_smaller_tensors(model, traced, keep)
    networks = [
        make_network(
            small,
            _smaller(model, graph, keep),
            graph.structure,
            f"constant_{index}_",
            calls_layers=True,
        )
        for index, (_, graph) in enumerate(traced.modes)
    ]
    if len(networks) == 1:
        return networks[0]
    return TwoModes(small, (networks[0], networks[1]))


#: Forms to try in order: the user's own class first, then the graph.
_FORMS: tuple[Operation, ...] = (slim_modules, slim_graph)
