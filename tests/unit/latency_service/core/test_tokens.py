"""Tokens can be told from other text, and from mistyped tokens, without asking anybody."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_service.core import tokens
from latency_service.core.tokens import PREFIXES, RANDOM_LENGTH, TokenKind


@pytest.mark.parametrize("kind", PREFIXES)
def test_a_new_token_has_its_prefix_and_enough_randomness(kind: TokenKind) -> None:
    made = {tokens.make(kind) for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(f"{PREFIXES[kind]}[0-9A-Za-z]{{40}}", token) for token in made)
    assert all(tokens.is_well_formed(token) for token in made)
    assert RANDOM_LENGTH * math.log2(62) >= 190


@given(st.data())
def test_one_wrong_character_is_noticed(data: st.DataObject) -> None:
    token = tokens.make("user")
    place = data.draw(st.integers(min_value=0, max_value=len(token) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda one: one != token[place]))
    assert not tokens.is_well_formed(token[:place] + other + token[place + 1 :])


@given(st.text())
def test_other_text_is_no_token(text: str) -> None:
    assert not tokens.is_well_formed(text)


def test_a_cut_token_and_two_swapped_characters_are_noticed() -> None:
    token = tokens.make("agent")
    assert not tokens.is_well_formed(token[:-1])
    assert not tokens.is_well_formed(token + token[-1])
    place = next(i for i in range(4, 38) if token[i] != token[i + 1])
    swapped = token[:place] + token[place + 1] + token[place] + token[place + 2 :]
    assert not tokens.is_well_formed(swapped)


def test_the_checksum_is_fixed() -> None:
    """Scanners outside compute it as well: CRC-32 of the rest, in base 62, six digits."""
    body = "lsu_" + "0" * RANDOM_LENGTH
    assert tokens.is_well_formed(f"{body}{_base62(_crc(body))}")


def _crc(body: str) -> int:
    """CRC-32 as the standard defines it, bit by bit."""
    value = 0xFFFFFFFF
    for byte in body.encode():
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0xEDB88320 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def _base62(value: int) -> str:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join(digits[value // 62**place % 62] for place in reversed(range(6)))
