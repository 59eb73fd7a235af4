"""Form of the service's tokens: ``lsu_``, ``lsa_`` or ``lse_``, random characters, a checksum.

The checksum tells a mistyped or cut token without asking anybody, and the fixed form lets scanners
find tokens that have leaked into code or logs. It is no protection: anybody can compute it.
"""

from __future__ import annotations

import secrets
import string
import zlib
from typing import Literal

TokenKind = Literal["user", "agent", "enrolment"]

PREFIXES: dict[TokenKind, str] = {"user": "lsu_", "agent": "lsa_", "enrolment": "lse_"}
#: Random characters of a token: 34 of 62 kinds are 202 bits.
RANDOM_LENGTH = 34
#: Characters of the checksum, a CRC-32.
CHECKSUM_LENGTH = 6
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def make(kind: TokenKind) -> str:
    """A new token."""
    body = PREFIXES[kind] + "".join(secrets.choice(_DIGITS) for _ in range(RANDOM_LENGTH))
    return body + _checksum(body)


def has_prefix(token: str) -> bool:
    """Whether a text begins as the service's tokens do."""
    return token.startswith(tuple(PREFIXES.values()))


def is_well_formed(token: str) -> bool:
    """Whether a text has the form of a token and the checksum that belongs to it."""
    body = token[:-CHECKSUM_LENGTH]
    is_complete = len(token) == len("lsu_") + RANDOM_LENGTH + CHECKSUM_LENGTH
    return is_complete and has_prefix(token) and token.endswith(_checksum(body))


def _checksum(body: str) -> str:
    """CRC-32 of the other characters, in base 62."""
    value = zlib.crc32(body.encode(errors="replace"))
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
