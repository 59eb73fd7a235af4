"""Types of the arrays that pass between modules; shapes and units stand in the docstrings."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Floats32: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
#: Integers or floats of any size, such as width vectors [B, G].
Numbers: TypeAlias = npt.NDArray[np.number]
#: Any type of element, such as the weights of a network.
Array: TypeAlias = npt.NDArray[np.generic]
