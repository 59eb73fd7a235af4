"""The token and the database of integration tests."""

from __future__ import annotations

import pytest

#: For what the database has no part in.
SQLITE_ONLY = pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
#: For what only PostgreSQL has.
POSTGRESQL_ONLY = pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)


API_TOKEN = "integration-tests-only-0123456789"
