"""Conformance tests of pruning methods: everything that a job expects of a `Method`.

With pytest, one test for each check:

>>> import pytest
>>> from pruning_client.testing import CHECKS, Subject
>>> @pytest.mark.parametrize("check", CHECKS)
... def test_my_method(check: str) -> None:
...     run = CHECKS[check]
...     run(Subject(method=MyMethod(epochs=1)))

Or all at once, without pytest: ``check_method(MyMethod(epochs=1))``.
"""

from pruning_client.testing.cases import FAMILIES, Case, make_case
from pruning_client.testing.checks import CHECKS, Check, Subject, check_method
from pruning_client.testing.errors import ConformanceError

__all__ = [
    "CHECKS",
    "FAMILIES",
    "Case",
    "Check",
    "ConformanceError",
    "Subject",
    "check_method",
    "make_case",
]
