"""The binary form of predictions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from latency_service.core.errors import BadRequest
from latency_service.predictors.binary import decode_answer, decode_widths, encode, join

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 20))
FINITE = st.floats(-1e6, 1e6, width=32)


@given(SHAPES.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=FINITE)))
def test_widths_come_back_as_they_were(widths: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_widths(encode([widths]), widths.shape[1]), widths)


@given(SHAPES, st.booleans())
def test_answers_come_back_as_they_were(shape: tuple[int, int], gradient: bool) -> None:
    rng = np.random.default_rng(0)
    columns = [*rng.random((3, shape[0])).astype(np.float32), rng.random(shape).astype(np.float32)]
    answer = decode_answer(
        encode(columns if gradient else columns[:3]), shape[1], gradient=gradient
    )
    np.testing.assert_array_equal(
        [answer.latency_ms, answer.lower_ms, answer.upper_ms], columns[:3]
    )
    if gradient:
        np.testing.assert_array_equal(answer.gradient, columns[3])
    else:
        assert answer.gradient is None


def test_the_wire_is_little_endian_float32() -> None:
    assert encode([[1, 2.5]]) == bytes.fromhex("0000803f00002040")
    np.testing.assert_array_equal(decode_widths(bytes.fromhex("0000803f00002040"), 2), [[1, 2.5]])


@pytest.mark.parametrize("body", [b"", b"\0" * 7, b"\0" * 20])
def test_odd_lengths_are_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="2 groups make 8 bytes each"):
        decode_widths(body, 2)


def test_cut_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="13 bytes are no whole number of answers of 12 bytes"):
        decode_answer(b"\0" * 13, 2, gradient=False)


def test_parts_are_joined_in_their_order() -> None:
    parts = [decode_answer(encode([[float(k)]] * 3 + [[[k, k]]]), 2, gradient=True) for k in (1, 2)]
    whole = join(parts)
    assert whole.latency_ms.tolist() == [1, 2]
    assert whole.gradient is not None
    assert whole.gradient.tolist() == [[1, 1], [2, 2]]
    assert join([decode_answer(encode([[1.0]] * 3), 2, gradient=False)] * 2).gradient is None
