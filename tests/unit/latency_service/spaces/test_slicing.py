from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from latency_service.spaces.errors import SpaceError, WidthsError
from latency_service.spaces.plan import make_plan
from latency_service.spaces.schemas import Manifest, Segment
from latency_service.spaces.slicing import (
    MANIFEST_KEY,
    SearchSpace,
    build_space,
    kept_positions,
    materialise,
)
from latency_service.spaces.weightless import draw_weights, is_weightless, make_weightless
from tests.support import small_spaces

Array = npt.NDArray[np.generic]


def run(model: ModelProto, batch: int = 2) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(1).standard_normal((batch, 3, 2, 2)).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])


def by_hand(keep: list[list[int]]) -> Array:
    """The dense graph with the removed channels' consumers set to zero."""
    weights = small_spaces.dense_weights()
    gone_a = np.setdiff1d(np.arange(6), keep[0])
    gone_b = np.setdiff1d(np.arange(8), keep[1])
    weights["b"][:, gone_a] = 0
    weights["fc"].reshape(5, 8, 4)[:, gone_b] = 0
    model = small_spaces.graph()
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return run(model)


#: Outputs reach 100, where float32 rounds at 8e-6; one wrong channel changes them by 1.5 and more.
ROUNDING = {"atol": 1e-5, "rtol": 1e-5}

keeps = st.tuples(
    st.sets(st.integers(0, 5), min_size=2), st.sets(st.integers(0, 7), min_size=1)
).map(lambda sets: [sorted(kept) for kept in sets])


@given(keeps)
def test_any_kept_channels_give_the_network_without_the_others(keep: list[list[int]]) -> None:
    widths = [len(kept) for kept in keep]
    model = materialise(
        small_spaces.space(),
        widths,
        keep=[np.array(kept) for kept in keep],
        weights=small_spaces.dense_weights(),
    )
    np.testing.assert_allclose(run(model), by_hand(keep), **ROUNDING)


@given(st.integers(2, 6), st.integers(1, 8))
def test_without_keep_the_first_channels_stay_and_weightless_shapes_agree(a: int, b: int) -> None:
    space = small_spaces.space()
    bare = materialise(space, [a, b])
    full = materialise(space, [a, b], weights=small_spaces.dense_weights())
    assert all(is_weightless(t) == (t.name != "shape") for t in bare.graph.initializer)
    assert [list(t.dims) for t in bare.graph.initializer] == [
        list(t.dims) for t in full.graph.initializer
    ]
    np.testing.assert_allclose(run(full), by_hand([list(range(a)), list(range(b))]), **ROUNDING)


segments = st.lists(
    st.builds(
        Segment,
        group=st.integers(-1, 1),
        start=st.integers(0, 3),
        step=st.integers(0, 2),
        count=st.integers(1, 4),
        repeat=st.integers(1, 3),
    ),
    min_size=1,
    max_size=4,
)


@given(segments, st.lists(st.sets(st.integers(0, 11)), min_size=2, max_size=2))
def test_kept_positions_agree_with_their_definition(
    run_of: list[Segment], kept: list[set[int]]
) -> None:
    expected = []
    position = 0
    for segment in run_of:
        for p in range(segment.count * segment.repeat):
            if (
                segment.group < 0
                or segment.start + segment.step * (p // segment.repeat) in kept[segment.group]
            ):
                expected.append(position)
            position += 1
    arrays = [np.array(sorted(channels), np.int64) for channels in kept]
    assert kept_positions(run_of, arrays).tolist() == expected


def test_plan_of_a_manifest_without_groups_keeps_everything() -> None:
    plan = make_plan(Manifest(name="none", groups=[], slices=[], values=[]))
    assert plan.mask([]).tolist() == [True]


@pytest.mark.parametrize(
    ("widths", "part"),
    [
        ([6], "1 widths given for 2 width groups: a, b"),
        ([1, 8], "width 1 of group 'a' is out of range: give a whole number from 2 to 6"),
        ([6, 9], "width 9 of group 'b'"),
        ([6, 2.5], "width 2.5 of group 'b'"),
    ],
)
def test_widths_that_do_not_fit_name_the_group(widths: list[int], part: str) -> None:
    with pytest.raises(WidthsError, match=part):
        materialise(small_spaces.space(), widths)


@pytest.mark.parametrize(
    ("keep", "part"),
    [
        ([[0, 1]], "1 entries for 2"),
        ([[0, 1], [0, 0]], "2 distinct channels of group 'b'"),
        ([[0, 1], [0]], "2 distinct channels of group 'b', but names 1"),
        ([[0, 6], [0, 1]], "outside 0..5"),
    ],
)
def test_channels_that_do_not_fit_name_the_group(keep: list[list[int]], part: str) -> None:
    with pytest.raises(WidthsError, match=part):
        materialise(small_spaces.space(), [2, 2], keep=[np.array(kept) for kept in keep])


def test_weights_that_do_not_fit_are_named() -> None:
    weights = small_spaces.dense_weights()
    with pytest.raises(SpaceError, match="no values given for the weight 'fc'"):
        materialise(
            small_spaces.space(), [2, 2], weights={k: v for k, v in weights.items() if k != "fc"}
        )
    with pytest.raises(SpaceError, match="weight 'fc' has shape"):
        materialise(small_spaces.space(), [2, 2], weights=weights | {"fc": weights["fc"][:2]})


def test_space_file_holds_no_weights_and_names_itself_by_its_content() -> None:
    space = small_spaces.space()
    assert len(space.data) < 3000
    assert all(
        not t.raw_data and not t.float_data
        for t in space.model.graph.initializer
        if t.name != "shape"
    )
    for value in small_spaces.dense_weights().values():
        assert value.tobytes()[:64] not in space.data
    assert small_spaces.space().id == space.id == SearchSpace.from_bytes(space.data).id
    assert len(space.id) == 64


def test_materialised_graph_is_not_itself_a_space() -> None:
    model = materialise(small_spaces.space(), [3, 3])
    assert all(entry.key != MANIFEST_KEY for entry in model.metadata_props)


def test_settings_and_scalars_keep_their_values() -> None:
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    scalar = numpy_helper.from_array(np.float32(0.5), "half")
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["y"], "up"),
        helper.make_node("Mul", ["y", "half"], ["z"], "halve"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3, 4, 4])
    bare = make_weightless(
        helper.make_model(helper.make_graph(nodes, "up", [x], [z], [scales, scalar]))
    )
    assert not any(is_weightless(tensor) for tensor in bare.graph.initializer)


def test_drawn_weights_are_of_order_one_and_repeatable() -> None:
    model = draw_weights(materialise(small_spaces.space(), [4, 4]), seed=3)
    again = draw_weights(materialise(small_spaces.space(), [4, 4]), seed=3)
    assert model.SerializeToString() == again.SerializeToString()
    assert 0.01 < np.abs(run(model)).max() < 100
    values = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "a"))
    assert np.abs(values[values != 0]).min() > np.finfo(np.float32).tiny


def test_load_refuses_what_is_no_space() -> None:
    for data in (b"", b"garbage", b"\x00" * 100):
        with pytest.raises(SpaceError):
            SearchSpace.from_bytes(data)
    with pytest.raises(SpaceError, match="holds no manifest"):
        SearchSpace.from_bytes(make_weightless(small_spaces.graph()).SerializeToString())
    broken = make_weightless(small_spaces.graph())
    broken.metadata_props.add(key=MANIFEST_KEY, value="{}")
    with pytest.raises(SpaceError, match="manifest is not valid"):
        SearchSpace.from_bytes(broken.SerializeToString())


Edit = Callable[[dict[str, list[dict[str, object]]]], object]


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (lambda m: m["slices"][0].update(initializer="gone"), "'gone', which the graph lacks"),
        (lambda m: m["slices"][0].update(axis=7), "axis 7 of 'a'"),
        (lambda m: m["slices"][0].update(segments=[{"group": 0, "count": 5}]), "cover 5 positions"),
        (
            lambda m: m["slices"][0].update(segments=[{"group": 9, "count": 6}]),
            "width group 9, but there are 2",
        ),
        (
            lambda m: m["slices"][0].update(segments=[{"group": 0, "start": 3, "count": 6}]),
            "names channel 8",
        ),
        (lambda m: m["values"][0].update(node="gone"), "'group' of node 'gone'"),
        (lambda m: m["values"][0].update(attribute="gone"), "'gone' of node 'second'"),
        (lambda m: m["values"][0].update(attribute="pads", index=9), "'pads' of node 'second'"),
        (lambda m: m["values"][1].update(initializer="gone"), "sets 'gone'"),
        (lambda m: m["values"][1].update(initializer="fc"), "not an integer constant"),
        (lambda m: m["values"][1].update(index=2), "element 2 of 'shape'"),
        (
            lambda m: m["values"][1].update(segments=[{"group": -1, "count": 10**9}]),
            "positions on its axes",
        ),
        (lambda m: m["groups"][0].update(minimum=7), "minimum 7 of group 'a' is above its width 6"),
    ],
)
def test_load_refuses_a_manifest_that_does_not_fit(edit: Edit, part: str) -> None:
    raw = small_spaces.manifest().model_dump()
    edit(raw)
    with pytest.raises(SpaceError, match=part):
        build_space(make_weightless(small_spaces.graph()), Manifest.model_validate(raw))


def test_materialising_takes_milliseconds() -> None:
    space = small_spaces.space()
    materialise(space, [3, 3])
    fastest = min(_seconds(lambda: materialise(space, [3, 3])) for _ in range(20))
    assert fastest < 0.002


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def test_a_space_survives_its_file(tmp_path: Path) -> None:
    space = small_spaces.space()
    file = space.save(tmp_path / "network.space")
    assert file.read_bytes() == space.data
    assert SearchSpace.load(file).id == space.id


def test_a_file_that_is_not_a_space_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"absent\.space cannot be read: No such file"):
        SearchSpace.load(tmp_path / "absent.space")
    (tmp_path / "torn.space").write_bytes(b"\x01")
    with pytest.raises(SpaceError, match="not an ONNX file"):
        SearchSpace.load(tmp_path / "torn.space")
