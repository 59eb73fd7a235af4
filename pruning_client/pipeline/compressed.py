"""A network with unified weights, its packed file, and how both are loaded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from latency_service.core.files import write_whole
from pruning_client.execution.copies import copied
from pruning_client.methods.unification.packed import read_packed

FILE = "unified.safetensors"
REPORT = "unified.json"
#: What compression does not do.
LATENCY = (
    "The latency does not change: no channel is removed, and once the file is loaded the network "
    "runs with dense weights."
)


@dataclass(frozen=True, kw_only=True)
class StoredBytes:
    """Sizes in bytes of the files of one network."""

    #: safetensors file of the state_dict.
    dense: int
    packed: int
    #: The same two, compressed by gzip.
    dense_gzip: int
    packed_gzip: int


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A network with unified weights, and its packed file."""

    #: The network in eval mode, on the torch device of the given one.
    module: nn.Module
    #: Content of the packed file, for `load_compressed`.
    file: bytes = field(repr=False)
    sizes: StoredBytes
    #: Quality on held-out data before and after, per cent.
    quality_before: float
    quality_after: float
    #: Share of the weights of the unified layers that are zero.
    zero_share: float
    #: Options of the method.
    options: dict[str, Any]
    history: list[dict[str, Any]] = field(repr=False)

    @property
    def report(self) -> dict[str, Any]:
        """Plain values of everything but the network and its file."""
        return {
            "bytes": asdict(self.sizes),
            "quality": {"before": self.quality_before, "after": self.quality_after},
            "zero_share": self.zero_share,
            "latency": LATENCY,
            "method": self.options,
            "history": self.history,
        }

    def save(self, folder: Path | str) -> Path:
        """Write unified.safetensors and unified.json to a folder."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.report, indent=2) + "\n"
        write_whole(target / FILE, self.file, mode=0o644)
        write_whole(target / REPORT, text.encode(), mode=0o644)
        return target


def load_compressed(model: nn.Module, path: Path | str) -> nn.Module:
    """A copy of a network, in eval mode, with the weights of a packed file.

    Args:
        model: Network of the structure that was compressed, with any weights.
        path: unified.safetensors of `compress`. It may come from anywhere: it is checked against
            the network, and nothing of it is executed.

    Raises:
        PackedFileError: The file is damaged, too large, or of another network.
    """
    loaded = copied(model)
    loaded.load_state_dict(read_packed(path, loaded.state_dict()))
    return loaded.eval()
