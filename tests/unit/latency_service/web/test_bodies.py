"""Bodies within limits, and JSON that is no trap."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gzip
import json
import threading
import time
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from latency_service.core.errors import BadRequest, ServiceError, TooLarge
from latency_service.settings import Settings
from latency_service.web import bodies
from latency_service.web.bodies import (
    BodyLimits,
    BoundedRequest,
    check_nodes,
    parse_json,
    read_body,
)
from latency_service.web.held import Bodies
from tests.support.garbage import objects_so_far_apart

LIMITS = BodyLimits(what="run", size_bytes=1000, nodes=20, depth=5)
GZIP = BodyLimits(what="result", size_bytes=1 << 20, nodes=20, depth=5, compressible=True)


def request(pieces: Sequence[bytes], **headers: str) -> Request:
    waiting = list(pieces)

    async def receive() -> Message:
        piece = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    state = {"held": Bodies(Settings()).of("token")}
    return Request({"type": "http", "method": "POST", "headers": sent, "state": state}, receive)


def read(pieces: Sequence[bytes], limits: BodyLimits = LIMITS, **headers: str) -> bytes:
    return asyncio.run(read_body(request(pieces, **headers), limits))


def refused(error: pytest.ExceptionInfo[ServiceError]) -> str:
    assert error.value.cure
    return error.value.message


def test_a_body_at_its_limit_is_read() -> None:
    assert read([b"a" * 600, b"b" * 400]) == b"a" * 600 + b"b" * 400


def test_a_body_over_its_limit_is_refused_while_it_arrives() -> None:
    with pytest.raises(TooLarge) as error:
        read([b"a" * 600, b"b" * 401, b"c" * 10**6])
    assert refused(error) == "The run is larger than 1000 bytes."
    assert "LATENCY_SERVICE_MAX_RUN_BYTES" in error.value.cure


@pytest.mark.parametrize("length", ["1001", "9" * 15, "9" * 5000])
def test_a_body_announced_as_too_large_is_not_read(length: str) -> None:
    with pytest.raises(TooLarge):
        read([], content_length=length)


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, gzip"])
def test_compression_is_refused_where_it_is_not_expected(coding: str) -> None:
    with pytest.raises(BadRequest) as error:
        read([gzip.compress(b"{}")], content_encoding=coding)
    assert error.value.status == 415


def test_a_compressed_body_is_unpacked_piece_by_piece() -> None:
    body = json.dumps([0.1 * k for k in range(2000)]).encode()
    packed = gzip.compress(body)
    pieces = [packed[k : k + 100] for k in range(0, len(packed), 100)]
    assert read(pieces, GZIP, content_encoding="gzip") == body


@pytest.mark.parametrize(
    ("limits", "words"),
    [(GZIP, "more than 200 times"), (LIMITS, "larger than 1000 bytes")],
    ids=["ratio", "size"],
)
def test_a_bomb_is_refused_before_it_unpacks(limits: BodyLimits, words: str) -> None:
    allowed = BodyLimits(**{**vars(limits), "compressible": True})
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(TooLarge) as error:
        read([bomb[k : k + 64] for k in range(0, len(bomb), 64)], allowed, content_encoding="gzip")
    assert words in refused(error)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no gzip at all", "is not valid gzip"),
        (gzip.compress(b"{}")[:-4], "is not one complete gzip stream"),
        (gzip.compress(b"{}") + b"more", "is not one complete gzip stream"),
        (b"", "is not one complete gzip stream"),
        (zlib.compress(b"{}"), "is not valid gzip"),
    ],
    ids=["noise", "cut", "more behind it", "empty", "zlib"],
)
def test_what_is_no_gzip_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(BadRequest) as error:
        read([content], GZIP, content_encoding="gzip")
    assert error.value.status == 400
    assert words in refused(error)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b'{"a": 1}}', "Extra data"),
        (b"\xff{}", "byte 0 is not UTF-8"),
        (json.dumps({"a": "x"}).encode("utf-16"), "is not UTF-8"),
        (b'"\xed\xa0\x80"', "is not UTF-8"),
        (b'["\\ud800"]', "half a surrogate pair"),
        (b'{"\\udfff": 1}', "half a surrogate pair"),
        (b'{"a": {"b": ["\\u0000"]}}', "NUL character"),
        (b"[NaN]", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[1e999]", "a number is too large"),
        (b"[" + b"9" * 400 + b".0]", "a number is too large"),
        (b"[" + b"9" * 400 + b"]", "a number is too large"),
        (b"[" + b"9" * 299 + b"e99]", "a number is too large"),
        (b"[" + b"9" * 240 + b".5E+70]", "a number is too large"),
        (b"9" * 5000, "too many digits"),
        (nested(6), "nested more than 5 levels deep"),
        (b'{"a":' * 6 + b"1" + b"}" * 6, "nested more than 5 levels deep"),
        (b"[" + b"{}," * 20 + b"{}]", "more than 20 objects and lists"),
        (nested(100_000), "more than 20 objects and lists"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_json_that_is_not_taken_says_why(content: bytes, words: str) -> None:
    with pytest.raises(BadRequest) as error:
        parse_json(content, LIMITS)
    assert words in refused(error)
    assert error.value.status == 422


@pytest.mark.parametrize(
    "value",
    [
        None,
        1e308,
        -1e-320,
        {"a": "\U0001f600 ü [[[[[[ {{{{{{"},
        [[[[[1]]]]],
        "[" * 1000,
        ['"\\[', "\\\\", '\\"{'] * 5,
    ],
    ids=str,
)
def test_json_that_is_taken_keeps_its_value(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert parse_json(text.encode(), LIMITS) == value


HOSTILE = {
    "quotes that close nothing": b"[" * 21 + b'"' + b'\\"' * 500_000,
    "backslashes": b"[" * 21 + b'"' + b"\\" * 1_000_001,
    "empty texts": b'["[[[[[[[[[[[[[[[[[[[[",' + b'"",' * 300_000 + b'""]',
    "one text of openings": b'["' + b"[" * 1_000_000 + b'"]',
    "long numbers": b"[" + (b"1" * 199 + b",") * 5_000 + b"1]",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_take_no_longer_than_others(kind: str) -> None:
    with objects_so_far_apart():
        began = time.process_time()
        with contextlib.suppress(BadRequest):
            parse_json(HOSTILE[kind], LIMITS)
        spent_seconds = time.process_time() - began
    assert spent_seconds < 1.0


@given(
    st.recursive(
        st.none()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text('"\\[{x', max_size=9),
        lambda inner: st.lists(inner) | st.dictionaries(st.text('"\\[{x', max_size=3), inner),
    )
)
def test_objects_and_lists_are_counted_wherever_quotes_stand(value: Any) -> None:
    body = json.dumps(value).encode()
    count = _count(value)
    check_nodes(body, BodyLimits(what="run", size_bytes=1, nodes=count, depth=1))
    if count:
        with pytest.raises(BadRequest, match=f"more than {count - 1} objects and lists"):
            check_nodes(body, BodyLimits(what="run", size_bytes=1, nodes=count - 1, depth=1))


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_count, value.values()))
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 0


def test_texts_are_told_from_the_rest_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_PIECE_BYTES", 3)
    body = json.dumps(["[{" * 9, '"[', ["\\", "[", {}]] * 5).encode()
    limits = BodyLimits(what="run", size_bytes=1, nodes=11, depth=1)
    check_nodes(body, limits)
    with pytest.raises(BadRequest, match="more than 10 objects"):
        check_nodes(body, dataclasses.replace(limits, nodes=10))


@pytest.mark.parametrize(("texts", "is_elsewhere"), [(10, False), (20_000, True)])
def test_a_large_body_is_parsed_beside_the_event_loop(
    texts: int, is_elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def parsed(body: bytes, limits: BodyLimits) -> Any:
        threads.append(threading.get_ident())
        return parse_json(body, limits)

    monkeypatch.setattr(bodies, "parse_json", parsed)
    generous = BodyLimits(what="run", size_bytes=1 << 20, nodes=20, depth=5)
    asked = request([json.dumps(["text"] * texts).encode()])
    bounded = BoundedRequest(asked.scope, asked.receive, generous)
    assert len(asyncio.run(bounded.json())) == texts
    assert (threads != [threading.get_ident()]) is is_elsewhere


def test_deep_json_is_refused_even_where_nodes_are_not_limited() -> None:
    generous = BodyLimits(what="run", size_bytes=10**7, nodes=10**7, depth=32)
    with pytest.raises(BadRequest, match="more than 32 levels"):
        parse_json(nested(100_000), generous)


def test_a_request_reads_its_body_once() -> None:
    async def twice() -> tuple[Any, Any, bytes]:
        asked = request([b'{"a"', b": 1}"])
        bounded = BoundedRequest(asked.scope, asked.receive, LIMITS)
        return await bounded.json(), await bounded.json(), await bounded.body()

    assert asyncio.run(twice()) == ({"a": 1}, {"a": 1}, b'{"a": 1}')
