"""An output under a notebook's cell that is drawn again and again."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from rich.console import Console, RenderableType

#: Characters in a line.
_WIDTH = 112
_FORMAT = '<pre style="white-space: pre; overflow-x: auto; line-height: 1.4">{code}</pre>'


class NotebookCell:
    """One output of the running cell, replaced by each `show`; needs IPython, which every notebook
    has, and no widgets.
    """

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, content: RenderableType) -> None:
        """Draw something of rich."""
        display = import_module("IPython.display")
        drawn = display.HTML(html_of(content))
        if self._handle is None:
            self._handle = display.display(drawn, display_id=True)
        else:
            self._handle.update(drawn)


def html_of(content: RenderableType) -> str:
    """Something of rich as HTML, escaped, without script."""
    console = Console(
        file=io.StringIO(), record=True, width=_WIDTH, force_terminal=True, force_jupyter=False
    )
    console.print(content)
    return console.export_html(code_format=_FORMAT, inline_styles=True)
