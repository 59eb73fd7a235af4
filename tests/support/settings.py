"""The token and the database of integration tests."""

from __future__ import annotations

import pytest

#: For what the database has no part in.
SQLITE_ONLY = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)


API_TOKEN = "integration-tests-only-0123456789"
