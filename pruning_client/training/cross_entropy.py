"""Cross-entropy in the forms in which users give it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.nn import functional as F

#: Label that cross-entropy ignores by default.
_IGNORED = -100


def is_cross_entropy(loss: Callable[..., Any]) -> bool:
    """Whether a loss is cross-entropy of class scores, or the likelihood of their logarithms, as
    torch has them.
    """
    function = loss.func if isinstance(loss, partial) else loss
    is_module = isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss))
    return is_module or function in (F.cross_entropy, F.nll_loss)


def ignored_label(loss: Callable[..., Any]) -> int:
    """Label of positions that do not count in a loss."""
    if isinstance(loss, partial):
        return int(loss.keywords.get("ignore_index", _IGNORED))
    return int(getattr(loss, "ignore_index", _IGNORED))
