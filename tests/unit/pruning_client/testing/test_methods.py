"""Every built-in method passes the conformance suite."""

from __future__ import annotations

import pytest

from pruning_client.methods.registry import METHODS
from pruning_client.testing import CHECKS, Subject
from tests.support.short_methods import short

#: Families that a method refuses, by its name.
REFUSED: dict[str, frozenset[str]] = {}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", METHODS)
def test_conforms(name: str, check: str) -> None:
    CHECKS[check](Subject(method=short(name), refuses=REFUSED.get(name, frozenset())))
