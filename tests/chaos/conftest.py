from tests.support.stages import stage

__all__ = ["stage"]
