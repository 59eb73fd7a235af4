"""int8 files of a job: calibrated on the user's images, with sensitive layers left in float."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import ModelProto
from torch import Tensor, nn

from latency_service.core.arrays import Array, Floats32
from latency_service.core.quantisation import Feeds, Quantiser, is_symmetric
from latency_service.core.runtimes import CalibrationName
from pruning_client.data.batch import Batch
from pruning_client.data.batches import Batches
from pruning_client.errors import ModelError, Refused, UsageError
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.pipeline.quantisation_settings import Quantisation
from pruning_client.training.fake_quantisation import check_layers, fake_quantisation

#: Number of images in one calibrating run, whose intermediate values are all held in memory.
_BATCH = 16
_PHASE = "quantise"


@dataclass(frozen=True, kw_only=True)
class NetworkFile:
    """A network as the file that is measured, and its accuracy through ONNX Runtime, per cent."""

    data: bytes
    accuracy: float
    #: the fp32 file of the same network; the same file for an fp32 target
    float_data: bytes
    float_accuracy: float
    #: layers of an int8 file that are left in float
    float_layers: tuple[str, ...] = ()

    @property
    def is_quantised(self) -> bool:
        return self.data is not self.float_data


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Layers of one network that are left in float, and what that comes to, per cent."""

    float_layers: tuple[str, ...]
    accuracy: float
    float_accuracy: float


class FileQuantiser:
    """Makes the int8 files of one job.

    Layers that a network was found to need in float stay so in the files made after it: widths are
    corrected by measured files, which therefore have to be alike.

    Args:
        samples: inputs to calibrate on, each [N, ...].
        providers: execution providers of the targets.
    """

    def __init__(
        self,
        config: Quantisation,
        samples: Sequence[Tensor],
        providers: Collection[str],
        *,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self._config = config
        self._samples = [inputs.cpu().numpy() for inputs in samples]
        self._providers = providers
        self._journal = journal
        self._progress = progress
        self._float_layers = config.float_layers

    def again(self, dense: NetworkFile, journal: Journal) -> FileQuantiser:
        """The same for another budget of the same dense network."""
        following = copy.copy(self)
        following._journal = journal
        following._float_layers = dense.float_layers
        return following

    @property
    def aware_epochs(self) -> int:
        """Epochs of quantisation-aware training."""
        return self._config.aware_epochs

    def check(self, model: nn.Module) -> None:
        """Check that a network can be trained as its files are rounded, where that is wanted.

        Raises:
            ModelError: it cannot: the weight of a layer is computed from other tensors.
        """
        if self.aware_epochs:
            check_layers(model, float_layers=self._float_layers)

    def rounding(self, model: nn.Module) -> AbstractContextManager[None]:
        """While active, the network computes with weights and inputs rounded as in its file."""
        return fake_quantisation(
            model, symmetric=is_symmetric(self._providers), float_layers=self._float_layers
        )

    def structure(self, graph: ModelProto) -> bytes:
        """The int8 file of a network whose latency alone is wanted.

        One batch calibrates it: latency does not depend on the ranges.
        """
        quantiser = self._quantiser(graph, _first(self._samples, _BATCH), "minmax")
        return _bytes(quantiser.quantised(self._float_layers))

    def file(self, data: bytes, accuracy_of: Callable[[bytes], float]) -> NetworkFile:
        """The int8 file of a network that keeps the accuracy of its fp32 file.

        Args:
            data: fp32 file.
            accuracy_of: accuracy of a file on held-out data, per cent.

        Raises:
            UsageError: there is no layer of a name to be left in float.
            ModelError: ONNX Runtime cannot quantise the network.
            Refused: no int8 file keeps the accuracy.
        """
        graph = onnx.load_model_from_string(data)
        quantiser = self._quantiser(graph, self._samples, self._config.calibration)
        _check_layers(self._config.float_layers, quantiser.layers)
        everything = next(_feeds(graph, self._samples, batch=len(self._samples[0])))
        search = _Search(quantiser, data, everything, self._progress)
        drop = self._config.max_accuracy_drop
        choice = self._journal.value(
            f"quantise {hashlib.sha256(data).hexdigest()[:16]}",
            Choice,
            lambda: search.run(self._float_layers, accuracy_of, drop),
        )
        self._float_layers = choice.float_layers
        return NetworkFile(
            data=_bytes(quantiser.quantised(choice.float_layers)),
            accuracy=choice.accuracy,
            float_data=data,
            float_accuracy=choice.float_accuracy,
            float_layers=choice.float_layers,
        )

    def _quantiser(
        self, graph: ModelProto, samples: Sequence[Array], calibration: CalibrationName
    ) -> Quantiser:
        try:
            return Quantiser(
                graph, _feeds(graph, samples), calibration=calibration, providers=self._providers
            )
        except Exception as error:  # ONNX Runtime's errors have no common base
            cause = " ".join(str(error).split())[:300]
            raise ModelError(
                f"ONNX Runtime cannot quantise this network: {cause}.",
                "Prune it for an fp32 target.",
            ) from error


class _Search:
    """Which layers of one network are left in float."""

    def __init__(
        self, quantiser: Quantiser, float_data: bytes, feeds: Feeds, progress: Progress
    ) -> None:
        self._quantiser = quantiser
        self._float_data = float_data
        self._feeds = feeds
        self._progress = progress

    def run(
        self, known: tuple[str, ...], accuracy_of: Callable[[bytes], float], max_drop: float
    ) -> Choice:
        """Leave layers in float, the most sensitive first, until the accuracy is kept.

        Raises:
            Refused: it is not, whatever is left in float.
        """
        float_accuracy = accuracy_of(self._float_data)
        lowest = float_accuracy - max_drop
        chosen = known
        found = self._accuracy(chosen, accuracy_of)
        while found < lowest:
            left = [name for name in self._by_sensitivity if name not in chosen]
            if len(left) <= 1:
                raise _refused(found, float_accuracy, max_drop)
            chosen = (*chosen, left[0])
            found = self._accuracy(chosen, accuracy_of)
        return Choice(float_layers=chosen, accuracy=found, float_accuracy=float_accuracy)

    def _accuracy(self, chosen: tuple[str, ...], accuracy_of: Callable[[bytes], float]) -> float:
        found = accuracy_of(_bytes(self._quantiser.quantised(chosen)))
        self._progress(
            ProgressEvent(
                phase=_PHASE,
                done=len(chosen),
                total=len(self._quantiser.layers),
                unit="layers in float",
                figures={"accuracy": f"{found:.2f} %"},
            )
        )
        return found

    @cached_property
    def _by_sensitivity(self) -> list[str]:
        """Layers, the one first that alone in int8 changes the outputs most."""
        layers = list(self._quantiser.layers)
        expected = _answer(self._float_data, self._feeds)
        errors = {}
        for layer in layers:
            others = [name for name in layers if name != layer]
            found = _answer(_bytes(self._quantiser.quantised(others)), self._feeds)
            errors[layer] = float(np.linalg.norm(found - expected))
        return sorted(layers, key=lambda name: -errors[name])


def calibration_samples(data: Batches, count: int, seed: int) -> list[Tensor]:
    """Inputs of `count` training samples, or of all where there are fewer; the same for the same
    seed.
    """
    found: list[Batch] = []
    for batch in data.shuffled(seed):
        found.append(batch)
        if sum(map(len, found)) >= count:
            break
    together = zip(*(batch.inputs for batch in found), strict=True)
    return [torch.cat(inputs)[:count] for inputs in together]


def _first(samples: Sequence[Array], count: int) -> list[Array]:
    return [inputs[:count] for inputs in samples]


def _feeds(graph: ModelProto, samples: Sequence[Array], batch: int = _BATCH) -> Iterator[Feeds]:
    constant = {tensor.name for tensor in graph.graph.initializer}
    names = [entry.name for entry in graph.graph.input if entry.name not in constant]
    for at in range(0, len(samples[0]), batch):
        yield {name: inputs[at : at + batch] for name, inputs in zip(names, samples, strict=True)}


def _answer(data: bytes, feeds: Feeds) -> Floats32:
    """All outputs [n] of a file, one behind the other."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.concatenate([np.ravel(output) for output in session.run(None, dict(feeds))])


def _bytes(graph: ModelProto) -> bytes:
    return bytes(graph.SerializeToString(deterministic=True))


def _check_layers(asked: Collection[str], known: Collection[str]) -> None:
    foreign = [name for name in asked if name not in known]
    if foreign:
        raise UsageError(
            f"The network has no layer {foreign[0]!r} to leave in float.",
            f"Its layers: {', '.join(known)}.",
        )


def _refused(accuracy: float, float_accuracy: float, max_drop: float) -> Refused:
    return Refused(
        f"No int8 file of this network is within {max_drop:g} points of its fp32 file "
        f"({float_accuracy:.2f} %): with all layers but one in float it has {accuracy:.2f} %.",
        "Allow a larger drop, try another calibration (`Quantisation(calibration=...)`), or prune "
        "for an fp32 target.",
    )
