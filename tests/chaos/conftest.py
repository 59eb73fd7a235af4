from tests.acceptance.conftest import stage

__all__ = ["stage"]
