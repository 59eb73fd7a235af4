"""ONNX Runtime sessions made for timing, on the very provider that was asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper

from latency_service.agent.measuring import threads
from latency_service.agent.measuring.ipc import MeasuringFailed
from latency_service.core import graphs
from latency_service.core.quantisation import Quantiser
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs.schemas import FailureKind
from latency_service.spaces.slicing import BATCH

#: Providers whose inputs and outputs are to lie in the accelerator's memory, and how ONNX Runtime
#: calls it.
_MEMORY = {
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "ROCMExecutionProvider": "cuda",
}
_CPU = "CPUExecutionProvider"
#: The first pattern found in a message of ONNX Runtime decides.
_CAUSES: tuple[tuple[str, FailureKind], ...] = (
    (
        "only *guarantees* support for models stamped with official released onnx opset",
        "version_mismatch",
    ),
    ("validateopsetfordomain", "version_mismatch"),
    ("unsupported model ir version", "version_mismatch"),
    ("failed to allocate memory", "device_oom"),
    ("out of memory", "device_oom"),
    ("bad_alloc", "device_oom"),
    ("no op registered", "unsupported_op"),
    ("is not a registered function/op", "unsupported_op"),
    ("not_implemented", "unsupported_op"),
    ("disable_cpu_ep_fallback", "unsupported_op"),
    ("fallback to cpu ep", "unsupported_op"),
    ("ep_fail", "unsupported_op"),
    ("invalid_protobuf", "model_invalid"),
    ("decodeerror", "model_invalid"),
    ("invalid_graph", "model_invalid"),
    ("invalid_argument", "model_invalid"),
)


class Network:
    """A session with its inputs bound: `run` is one timed inference, finished when it returns. Not
    thread-safe.
    """

    def __init__(self, session: Any, feeds: dict[str, npt.NDArray[Any]], memory: str) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._values = [
            ort.OrtValue.ortvalue_from_numpy(value, memory, 0) for value in feeds.values()
        ]
        for name, value in zip(feeds, self._values, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            self._binding.bind_output(output.name, memory)

    def run(self) -> None:
        """One inference; ONNX Runtime waits for the device before it returns."""
        self._session.run_with_iobinding(self._binding)


def open_network(
    model: ModelProto, runtime: RuntimeConfig, *, seed: int = 0, folder: Path | None = None
) -> Network:
    """A network ready to be timed on the target's provider, threads, batch and precision.

    Args:
        folder: where int8 quantization may put files; without it the model runs in the precision
            that it has.

    Raises:
        MeasuringFailed: `model_invalid`, `unsupported_op`, `version_mismatch`, `device_oom` or
            `runtime_crash`.
    """
    check_provider(runtime)
    _check_whole(model)
    names = _fix_batch(model, runtime.batch)
    try:
        if runtime.precision == "int8" and folder is not None:
            # only the latency is wanted, so random images calibrate it
            images = [random_feeds(model, seed)]
            model = Quantiser(
                model, images, providers=[runtime.provider], folder=folder
            ).quantised()
        session = _session(model.SerializeToString(), runtime, names)
        feeds = random_feeds(model, seed)
        network = Network(session, feeds, _MEMORY.get(runtime.provider, "cpu"))
        network.run()
    except MeasuringFailed:
        raise
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise classify(error) from error
    return network


def check_provider(runtime: RuntimeConfig) -> None:
    """Raise `unsupported_op` when this build of ONNX Runtime lacks the provider: it would fall back
    without a word.
    """
    available = ort.get_available_providers()
    if runtime.provider not in available:
        raise MeasuringFailed(
            "unsupported_op",
            f"this device's ONNX Runtime {ort.__version__} has no {runtime.provider}. Ask for "
            "one of "
            f"{', '.join(available)}, or install the build of ONNX Runtime that has it.",
        )


def classify(error: Exception) -> MeasuringFailed:
    """The typed failure that an exception of ONNX Runtime, of the slicing or of Python stands
    for.
    """
    if isinstance(error, MemoryError):
        return MeasuringFailed(
            "device_oom", f"out of memory: {error}. Ask for a smaller batch or architecture."
        )
    text = f"{type(error).__name__} {error}".lower()
    kind: FailureKind = next(
        (kind for pattern, kind in _CAUSES if pattern in text), "runtime_crash"
    )
    if isinstance(error, ValueError) and kind == "runtime_crash":
        kind = "model_invalid"
    cures = {
        "version_mismatch": (
            " Update onnxruntime on this device, or export the model with an older opset."
        ),
        "device_oom": " Ask for a smaller batch or a smaller architecture.",
    }
    return MeasuringFailed(kind, f"{str(error)[:3000]}{cures.get(kind, '')}")


def random_feeds(model: ModelProto, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Random values for every input of a model whose shapes are fixed."""
    generator = np.random.default_rng(seed)
    constant = {tensor.name for tensor in model.graph.initializer}
    feeds: dict[str, npt.NDArray[Any]] = {}
    for entry in model.graph.input:
        if entry.name not in constant:
            tensor = entry.type.tensor_type
            feeds[entry.name] = _values(
                generator, [d.dim_value for d in tensor.shape.dim], tensor.elem_type
            )
    return feeds


def _values(generator: np.random.Generator, shape: Sequence[int], kind: int) -> npt.NDArray[Any]:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    if dtype.kind == "f":
        return np.asarray(generator.standard_normal(shape), dtype=dtype)
    if dtype.kind in "iub":
        return np.asarray(generator.integers(0, 2, size=shape), dtype=dtype)
    raise MeasuringFailed(
        "model_invalid", f"an input of type {TensorProto.DataType.Name(kind)} cannot be filled"
    )


def _fix_batch(model: ModelProto, batch: int) -> list[str]:
    """Set the batch dimension of every input, in place; names of the symbolic dimensions that were
    fixed. The first input of several axes has the batch on its first one; a state of a recurrent
    network, after it, need not.
    """
    constant = {tensor.name for tensor in model.graph.initializer}
    names = [BATCH]
    has_batch = False
    for entry in model.graph.input:
        dims = entry.type.tensor_type.shape.dim
        if entry.name in constant or not dims:
            continue
        if dims[0].dim_param:
            names.append(dims[0].dim_param)
        if not dims[0].HasField("dim_value"):
            dims[0].dim_value = batch
        shape = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims]
        _check_sizes(entry.name, shape)
        if len(shape) > 1 and not has_batch:
            _check_batch(entry.name, shape[0], batch)
            has_batch = True
    return names


def _check_sizes(name: str, shape: Sequence[int | str]) -> None:
    if any(not isinstance(size, int) or size < 1 for size in shape[1:]):
        raise MeasuringFailed(
            "model_invalid",
            f"input {name!r} has shape {list(shape)}: only its first dimension may be dynamic. "
            "Export the model with fixed sizes, or measure it here with `latency-service measure "
            f"--shape {name}=SIZES`.",
        )


def _check_batch(name: str, size: int | str, batch: int) -> None:
    if size != batch:
        raise MeasuringFailed(
            "model_invalid",
            f"input {name!r} has a fixed batch of {size}, the target asks for {batch}. "
            "Export the model with a dynamic batch, or ask for a target with that batch.",
        )


def _check_whole(model: ModelProto) -> None:
    try:
        graphs.check_whole(model)
    except graphs.GraphError as error:
        raise MeasuringFailed("model_invalid", str(error)) from error


def _session(data: bytes, runtime: RuntimeConfig, names: Sequence[str]) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    if runtime.intra_threads == threads.shared():
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = runtime.intra_threads
        options.inter_op_num_threads = 1
        # threads that wait for work would take time from whatever is measured next
        options.add_session_config_entry("session.force_spinning_stop", "1")
    for name in dict.fromkeys(names):
        options.add_free_dimension_override_by_name(name, runtime.batch)
    if runtime.provider != _CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a provider that is left out is a warning only
        session = ort.InferenceSession(data, options, providers=[runtime.provider])
    used = session.get_providers()
    if not used or used[0] != runtime.provider:
        raise MeasuringFailed(
            "unsupported_op", f"{runtime.provider} was asked for, ONNX Runtime uses {used}"
        )
    return session
