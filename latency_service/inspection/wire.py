"""What the service tells a judging process, and what it is told back: one line of JSON, then the
upload, then one line of JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


class Refused(Exception):
    """An upload is refused, or the judging of it went over a limit.

    Args:
        message: the cause, in one sentence.
        cure: what to do about it, if the judge knows.
    """

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What judging one upload may use."""

    #: Private memory beyond what a judging process has when it starts, the upload included.
    memory_bytes: int
    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True, kw_only=True)
class Task:
    """One judgement: ``module:function`` takes the upload and returns what JSON can hold."""

    function: str
    limits: Limits

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Task:
        fields = json.loads(line)
        return cls(function=fields["function"], limits=Limits(**fields["limits"]))


def encode_result(result: Any) -> bytes:
    return json.dumps({"result": result}).encode()


def encode_refusal(refused: Refused) -> bytes:
    return json.dumps({"refused": [refused.message, refused.cure]}).encode()


def decode_answer(answer: bytes) -> Any:
    """The result.

    Raises:
        Refused: the upload is, or the process ended without an answer.
    """
    try:
        fields = json.loads(answer)
    except ValueError as error:
        raise Refused("judging it ended without an answer") from error
    if "refused" in fields:
        raise Refused(*fields["refused"])
    return fields["result"]
