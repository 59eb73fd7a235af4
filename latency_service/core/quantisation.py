"""int8 by ONNX Runtime's static quantisation: QDQ form, int8 weights per channel.

The agent quantises sampled architectures and the client quantises delivered files: both do it here,
so that a predictor of an int8 target has learnt from the kind of file that is delivered.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto

from latency_service.core.runtimes import CalibrationName, Precision

#: Values of a batch by the name of the input.
Feeds = Mapping[str, npt.NDArray[Any]]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_QUANTISED = (
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "QGemm",
    "QLinear",
)
#: Providers that take signed activations with a zero point of 0 only.
_SYMMETRIC = ("TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
#: Prefix of weights that a batch normalisation was folded into.
_FUSED = "ConvBnFusion_W_"


class Quantiser:
    """One network, calibrated; any of its layers can be left in float.

    Args:
        model: float network; it is not changed.
        feeds: batches to calibrate on, each run once and then forgotten.
        providers: execution providers that run the file; they decide the type of the activations:
            unsigned with a zero point, or signed and symmetric where TensorRT is among them.
        folder: where temporary files may lie; by default the system's place for them.

    Raises:
        Exception: of ONNX Runtime, when it cannot quantise this graph.
    """

    def __init__(
        self,
        model: ModelProto,
        feeds: Iterable[Feeds],
        *,
        calibration: CalibrationName = "minmax",
        providers: Collection[str] = ("CPUExecutionProvider",),
        folder: Path | None = None,
    ) -> None:
        self._symmetric = is_symmetric(providers)
        with tempfile.TemporaryDirectory(dir=folder) as scratch, _silence():
            self._prepared = _prepare(model, Path(scratch))
            self._ranges = self._calibrated(feeds, calibration, Path(scratch))

    @property
    def layers(self) -> dict[str, list[str]]:
        """Nodes of each layer, by the name of the module: its weighted operator and the operators
        that follow it in the graph.
        """
        weights = {tensor.name for tensor in self._prepared.graph.initializer}
        found: dict[str, list[str]] = {}
        before: list[str] = []
        last = before
        for node in self._prepared.graph.node:
            if node.op_type in _WEIGHTED and node.input[1] in weights:
                last = found.setdefault(_layer_name(node), [])
            last.append(node.name)
        for first in list(found.values())[:1]:
            first.extend(before)
        return found

    def quantised(self, float_layers: Collection[str] = ()) -> ModelProto:
        """The int8 network, with the layers of these names left in float.

        Raises:
            KeyError: there is no layer of a name.
        """
        # imported here: it costs .2 s that float targets need not pay
        from onnxruntime.quantization import QDQQuantizer, QuantType

        layers = self.layers
        excluded = [node for name in float_layers for node in layers[name]]
        quantizer = QDQQuantizer(
            _copy(self._prepared),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if self._symmetric else QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=excluded,
            op_types_to_quantize=_operators(),
            extra_options={"ActivationSymmetric": self._symmetric},
        )
        with _silence():
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        made: ModelProto = quantizer.model.model
        _drop_unused_domains(made)
        return made

    def _calibrated(
        self, feeds: Iterable[Feeds], calibration: CalibrationName, folder: Path
    ) -> Any:
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

        methods = {
            "minmax": CalibrationMethod.MinMax,
            "entropy": CalibrationMethod.Entropy,
            "percentile": CalibrationMethod.Percentile,
        }
        source = folder / "prepared.onnx"
        onnx.save_model(self._prepared, source)
        calibrator = create_calibrator(
            source,
            _operators(),
            augmented_model_path=str(folder / "augmented.onnx"),
            calibrate_method=methods[calibration],
            extra_options={"symmetric": self._symmetric},
        )
        for batch in feeds:
            calibrator.collect_data(_Once(batch))
        return calibrator.compute_data()


def is_symmetric(providers: Collection[str]) -> bool:
    """Whether activations have to be signed with a zero point of 0 for one of the providers."""
    return any(provider in _SYMMETRIC for provider in providers)


def precision_of(model: ModelProto) -> Precision:
    """int8 where operators of the graph quantise (QDQ, QLinear or dynamic form), else fp32."""
    is_quantised = any(node.op_type.startswith(_QUANTISED) for node in model.graph.node)
    return "int8" if is_quantised else "fp32"


def weight_name(initializer: str) -> str:
    """Name that a weight had before a batch normalisation was folded into it, and before it was
    quantised.
    """
    return initializer.removeprefix(_FUSED).removesuffix("_quantized")


class _Once:
    """One batch, in the form in which ONNX Runtime's calibration reads data."""

    def __init__(self, batch: Feeds) -> None:
        self._left = [batch]

    def get_next(self) -> Feeds | None:
        return self._left.pop() if self._left else None


def _prepare(model: ModelProto, folder: Path) -> ModelProto:
    """The network with known shapes and folded batch normalisations; every node has a name."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source = folder / "float.onnx"
    target = folder / "optimised.onnx"
    onnx.save_model(model, source)
    quant_pre_process(source, target, skip_symbolic_shape=True)
    prepared = onnx.load_model(target)
    for index, node in enumerate(prepared.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return prepared


def _drop_unused_domains(model: ModelProto) -> None:
    """Take away the operator sets that ONNX Runtime's optimiser names and no operator is of."""
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _layer_name(node: NodeProto) -> str:
    return weight_name(node.input[1]).removesuffix(".weight")


def _operators() -> list[str]:
    """Operators that ONNX Runtime quantises by default."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QLinearOpsRegistry, *QDQRegistry})


def _copy(model: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(model)
    return copied


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress what ONNX Runtime's tools print and log."""
    disabled = logging.root.manager.disable
    try:
        logging.disable(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
