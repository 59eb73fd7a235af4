"""Judges a delivered model file without running it; runs in a process with limits, see
`inspection`.
"""

from __future__ import annotations

from typing import Any

import onnx

from latency_service.core import graphs
from latency_service.core.memory import check_memory
from latency_service.inspection.wire import Refused


def inspect(upload: bytes) -> dict[str, Any]:
    """The opset of a file that is one whole ONNX model with ONNX's own operators.

    Raises:
        Refused: it is none; the message says why.
    """
    try:
        model = graphs.parse(upload)
        graphs.check_whole(model)
        graphs.check_operators(model)
        opset = graphs.opset_of(model)
    except graphs.GraphError as error:
        raise Refused(str(error), "Export it again, then upload it.") from error
    _check(upload)
    return {"opset": opset}


def _check(upload: bytes) -> None:
    try:
        onnx.checker.check_model(upload)
    except Exception as error:
        check_memory(error)
        raise Refused(
            f"the file is no valid ONNX model: {error}", "Export it again, then upload it."
        ) from error
