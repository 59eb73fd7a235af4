from tests.support.stages import calibrations, stage

__all__ = ["calibrations", "stage"]
