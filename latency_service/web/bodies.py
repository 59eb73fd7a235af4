"""Bodies of requests: read up to a limit and no further, and JSON that is no trap.

A body is refused as soon as it is over its limit, whether or not its length was announced. JSON is
counted before it is parsed, since a body of ``[{},{},…]`` takes thirty times its size in memory.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Receive, Scope

from latency_service.core.errors import BadRequest, TooLarge
from latency_service.settings import Settings
from latency_service.web.heads import raw_header
from latency_service.web.held import Held, Kind

JSON = "application/json"
#: A compressed body may unpack to this many times its size, or to `_ANY_RATIO_BYTES`.
_MAX_RATIO = 200
_ANY_RATIO_BYTES = 1 << 16

#: Bodies up to this size are parsed on the event loop: handing them to a thread would take longer.
#: Larger ones would keep everybody else waiting.
SMALL_BYTES = 32 << 10

#: What may become infinite, a NUL or a lone surrogate when parsed: a number with at most 199 digits
#: and a two-digit exponent is always finite. The search begins at the first of consecutive digits
#: only, so that its time grows with the length of the body and not with its square.
_SUSPICIOUS = re.compile(rb"\\u|[eE]\+?[0-9]{3}|(?<![0-9])[0-9]{200}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_LONGEST_LENGTH = 15
#: Bytes in which texts are told from the rest at a time.
_PIECE_BYTES = 1 << 18
_QUOTE = ord('"')
#: Both openings, `[` and `{`, with the bit set in which they differ.
_OPENING, _OPENING_BIT = ord("{"), ord("{") ^ ord("[")


@dataclass(frozen=True, kw_only=True)
class BodyLimits:
    """Limits of one route's bodies."""

    #: What the body is: it names the setting.
    what: str
    size_bytes: int
    #: Objects and lists in JSON, and how deep they may be nested.
    nodes: int
    depth: int
    #: Whether it may arrive compressed with gzip.
    compressible: bool = False
    #: With what it shares memory.
    kind: Kind = "json"

    @classmethod
    def of(
        cls, settings: Settings, what: str, *, compressible: bool = False, kind: Kind = "json"
    ) -> BodyLimits:
        """The limits of bodies of kind `what`: their size is the setting ``max_WHAT_bytes``."""
        return cls(
            what=what,
            size_bytes=getattr(settings, f"max_{what}_bytes"),
            nodes=settings.max_json_nodes,
            depth=settings.max_json_depth,
            compressible=compressible,
            kind=kind,
        )

    @property
    def setting(self) -> str:
        return f"LATENCY_SERVICE_MAX_{self.what.upper()}_BYTES"


class BoundedRequest(Request):
    """A request whose body is within `limits`.

    `body`, `json` and `stream` raise:
        TooLarge: it is larger.
        Overloaded: too much of others is held in memory.
        BadRequest: it is compressed where that is not allowed, is no valid gzip stream, or is no
            JSON that this service takes.
    """

    def __init__(self, scope: Scope, receive: Receive, limits: BodyLimits) -> None:
        super().__init__(scope, receive)
        self._limits = limits
        self._content: bytes | None = None
        self._value: Any = None

    async def body(self) -> bytes:
        if self._content is None:
            self._content = await read_body(self._as_received(), self._limits)
            self._body = self._content
        return self._content

    async def json(self) -> Any:
        if self._value is None:
            self._value = await self._parsed(await self.body())
        return self._value

    async def _parsed(self, body: bytes) -> Any:
        if len(body) <= SMALL_BYTES:
            return parse_json(body, self._limits)
        return await run_in_threadpool(parse_json, body, self._limits)

    def _as_received(self) -> Request:
        return Request(self.scope, self.receive)


def is_small(request: Request) -> bool:
    """Whether the head says that the body has at most `SMALL_BYTES`, unpacked too."""
    announced = raw_header(request.scope, b"content-length")
    is_packed = raw_header(request.scope, b"content-encoding") is not None
    return announced is not None and not is_packed and not _is_more(announced, SMALL_BYTES)


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The body, unpacked where it came compressed.

    Raises:
        TooLarge: it is larger than its limit, packed or unpacked.
        BadRequest, Overloaded: see `BoundedRequest`.
    """
    held: Held = request.state.held
    coding = raw_header(request.scope, b"content-encoding")
    unpack = None if coding is None else _unpacker(coding.decode("latin-1").lower(), limits)
    announced = raw_header(request.scope, b"content-length")
    if announced is not None and _is_more(announced, limits.size_bytes):
        raise _too_large(limits)
    body = bytearray()
    async for piece in request.stream():
        body += piece if unpack is None else unpack.part(piece, limits.size_bytes + 1 - len(body))
        if len(body) > limits.size_bytes:
            raise _too_large(limits)
        if len(body) > SMALL_BYTES:
            held.grow(limits.kind, len(body))
    if unpack is not None:
        unpack.check_complete()
    return bytes(body)


def parse_json(body: bytes, limits: BodyLimits) -> Any:
    """The value of a JSON text.

    Raises:
        BadRequest: it is no JSON in UTF-8, has too many objects and lists or too deep ones, or
            holds a number or a text that cannot be stored.
    """
    check_nodes(body, limits)
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _bad_json(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise _bad_json(f"{error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise _too_deep(limits) from error
    except ValueError as error:
        raise _bad_json("a number has too many digits") from error
    _check_depth(value, limits)
    if _SUSPICIOUS.search(body):
        _check_scalars(value)
    return value


def check_nodes(body: bytes, limits: BodyLimits) -> None:
    """Return if a JSON text has at most as many objects and lists as allowed.

    Raises:
        BadRequest: it has more.
    """
    openings = body.count(b"{") + body.count(b"[")
    if openings > limits.nodes and _count_nodes(body) > limits.nodes:
        raise BadRequest(
            f"The {limits.what} has more than {limits.nodes} objects and lists.",
            "Send several smaller ones, or raise LATENCY_SERVICE_MAX_JSON_NODES on the service.",
            code="too_many_nodes",
        )


def _is_more(announced: bytes, size_bytes: int) -> bool:
    if len(announced) > _LONGEST_LENGTH:
        return True
    return announced.isdigit() and int(announced) > size_bytes


def _count_nodes(body: bytes) -> int:
    """Openings of objects and lists outside of texts, in time linear in the body: a regular
    expression for texts takes seconds for a body of quotes.
    """
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    count = 0
    in_text = np.uint8(0)
    for start in range(0, len(unescaped), _PIECE_BYTES):
        size = min(_PIECE_BYTES, len(unescaped) - start)
        piece = np.frombuffer(unescaped, np.uint8, size, start)
        is_quote = (piece == _QUOTE).view(np.uint8)
        is_text = np.bitwise_xor.accumulate(is_quote) ^ in_text
        is_opening = (piece | _OPENING_BIT) == _OPENING
        count += int(np.count_nonzero(is_opening & (is_text == 0)))
        in_text = is_text[-1]
    return count


def _check_depth(value: Any, limits: BodyLimits) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limits.depth):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise _too_deep(limits)


def _children(parent: Any) -> Iterator[Any]:
    """Objects and lists directly inside one."""
    values = parent.values() if isinstance(parent, dict) else parent
    return (child for child in values if isinstance(child, dict | list))


def _check_scalars(value: Any) -> None:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.keys()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str):
            _check_text(one)
        elif isinstance(one, int | float):
            _check_number(one)


def _check_number(number: float) -> None:
    try:
        is_finite = math.isfinite(number)
    except OverflowError:  # an integer that no float can hold
        is_finite = False
    if not is_finite:
        raise _bad_json("a number is too large")


def _check_text(text: str) -> None:
    if _UNSTORABLE.search(text):
        raise _bad_json("a text holds a NUL character or half a surrogate pair")


def _refuse_constant(name: str) -> NoReturn:
    raise _bad_json(f"{name} is no number of JSON")


def _bad_json(cause: str) -> BadRequest:
    return BadRequest(
        f"The body is not JSON that this service takes: {cause}.",
        "Send a JSON object in UTF-8; /docs describes it.",
    )


def _too_deep(limits: BodyLimits) -> BadRequest:
    return BadRequest(
        f"The {limits.what} is nested more than {limits.depth} levels deep.",
        "Send a flatter one, or raise LATENCY_SERVICE_MAX_JSON_DEPTH on the service.",
        code="too_deep",
    )


def _too_large(limits: BodyLimits) -> TooLarge:
    return TooLarge(
        f"The {limits.what} is larger than {limits.size_bytes} bytes.",
        f"Send a smaller one, or raise {limits.setting} on the service.",
    )


def _unpacker(coding: str, limits: BodyLimits) -> _Gzip | None:
    if coding == "identity":
        return None
    if coding == "gzip" and limits.compressible:
        return _Gzip(limits)
    taken = "gzip or nothing" if limits.compressible else "nothing"
    raise BadRequest(
        f"The content encoding {coding!r} is not taken here.",
        f"Send the body encoded with {taken}.",
        code="unsupported_encoding",
        status=415,
    )


class _Gzip:
    """A compressed body while it arrives."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._packed = 0
        self._unpacked = 0

    def part(self, piece: bytes, most_bytes: int) -> bytes:
        """What a piece unpacks to, cut after `most_bytes`: a few bytes may unpack to gigabytes.

        Raises:
            BadRequest: it is not gzip.
            TooLarge: it unpacks to more than anything that an agent sends does.
        """
        try:
            data = self._inflater.decompress(piece, most_bytes)
        except zlib.error as error:
            raise _bad_gzip(f"is not valid gzip: {error}") from error
        self._packed += len(piece)
        self._unpacked += len(data)
        if self._unpacked > max(_ANY_RATIO_BYTES, _MAX_RATIO * self._packed):
            raise TooLarge(
                f"The {self._limits.what} unpacks to more than {_MAX_RATIO} times its size.",
                "Send it without compression.",
            )
        return data

    def check_complete(self) -> None:
        """Return if the stream has ended and nothing follows it."""
        if not self._inflater.eof or self._inflater.unused_data:
            raise _bad_gzip("is not one complete gzip stream")


def _bad_gzip(cause: str) -> BadRequest:
    return BadRequest(
        f"The body {cause}.", "Compress it again, or send it without compression.", status=400
    )
