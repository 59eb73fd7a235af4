from tests.acceptance.conftest import calibrations, stage

__all__ = ["calibrations", "stage"]
