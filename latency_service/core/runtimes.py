"""Names of a runtime configuration, for schemas and for the options of commands."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "int8"]
#: How the range of an activation follows from its values: all of them, all but outliers, or the
#: range that loses the least information (Kullback-Leibler divergence).
CalibrationName = Literal["minmax", "entropy", "percentile"]
DEFAULT_PROVIDER = "CPUExecutionProvider"
