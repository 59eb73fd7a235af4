"""Hostile spaces where no process with limits is around them: analysis fails with its own error."""

from __future__ import annotations

import contextlib

import pytest
from onnx import ModelProto

from latency_service.inspection.wire import Refused
from latency_service.spaces.errors import SpaceError
from latency_service.spaces.inspection import inspect
from latency_service.spaces.layers import layers, total_macs, total_parameters
from latency_service.spaces.sizes import measure
from latency_service.spaces.slicing import SearchSpace, materialise
from tests.support.hostile_models import graphs, manifests, shapes, spellings, values
from tests.support.hostile_models.catalogue import MODELS, SPACES
from tests.support.hostile_models.mutations import mutated
from tests.support.hostile_models.spoiling import valid_space

#: All but the files that only a limit on memory stops.
KINDS = {
    **graphs.KINDS,
    **manifests.KINDS,
    **shapes.KINDS,
    **spellings.KINDS,
    **values.KINDS,
}


def test_the_catalogue_is_as_long_as_promised() -> None:
    assert len(SPACES) >= 40
    assert len(MODELS) >= 30


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_refused_with_a_reason(kind: str) -> None:
    with pytest.raises(Refused) as caught:
        inspect(KINDS[kind]())
    assert caught.value.message


def test_the_valid_space_is_accepted() -> None:
    found = inspect(valid_space())
    assert (found["parameters"], found["macs"]) == (424, 4 * (162 + 54 + 48) + 160)


def test_reasons_name_the_limit_and_what_goes_over_it() -> None:
    for kind, words in {
        "24 concatenated shapes": "131072 values, 65536 are permitted",
        "20,000 nodes": "20005 nodes, 5000 are permitted",
        "4,000 groups x 4,000 convs": "2000000 are permitted",
        "macs beyond measure": "multiply-accumulates for one image, 100000000000000 are permitted",
        "opset of 2^63 - 1": "opset 9223372036854775807",
    }.items():
        with pytest.raises(Refused, match=words):
            inspect(KINDS[kind]())


@pytest.mark.parametrize("seed", range(150))
def test_analysis_of_mutated_spaces_fails_with_its_own_error(seed: int) -> None:
    """As trainers and clients read spaces, without a process with limits."""
    with contextlib.suppress(SpaceError):
        space = SearchSpace.from_bytes(mutated(valid_space(), seed))
        layers(space)
        total_macs(space, space.full_widths)
        total_parameters(space, space.full_widths)
        assert isinstance(materialise(space, space.full_widths), ModelProto)
        measure(space.model)
