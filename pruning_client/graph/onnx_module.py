"""An ONNX file as a torch module, so that what evaluates networks also evaluates files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruning_client.errors import DataError


class OnnxModule(nn.Module):
    """Runs an ONNX file in ONNX Runtime's CPU provider, with the inputs and outputs of the network
    that it was exported from.

    Tensors may come from any torch device; the outputs are on the same one. It has no submodules
    and cannot be trained: its only parameter tells that it is on the CPU.

    Args:
        data: the file.
        like: the network, in eval mode, whose form of outputs is taken: a tensor, or tensors in
            tuples, lists and dictionaries.
        example: inputs [B, ...] of `like`.
    """

    def __init__(self, data: bytes, like: nn.Module, example: Sequence[Tensor]) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )
        self._shapes = [tuple(x.shape[1:]) for x in example]
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        device = next(like.parameters()).device
        with torch.no_grad():
            self._leaves, self._form = pytree.tree_flatten(like(*(x.to(device) for x in example)))
        self.eval()

    def forward(self, *inputs: Tensor) -> Any:
        """Outputs of the file, in the form of the network's.

        Raises:
            DataError: The inputs have another shape than the example.
        """
        shapes = [tuple(x.shape[1:]) for x in inputs]
        if shapes != self._shapes:
            raise DataError(
                f"Inputs of shape {_written(shapes)} do not fit the exported file, which takes "
                f"{_written(self._shapes)}.",
                "Give all samples one shape: `image_size`, or a transform that crops.",
            )
        feeds = {
            name: x.detach().cpu().numpy() for name, x in zip(self._inputs, inputs, strict=True)
        }
        found = iter(self._session.run(None, feeds))
        leaves = [
            torch.from_numpy(next(found)).to(inputs[0].device) if torch.is_tensor(leaf) else leaf
            for leaf in self._leaves
        ]
        return pytree.tree_unflatten(leaves, self._form)


def _written(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes)
