"""HTML pages as a reader sees them."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Text that a reader sees, and everything that would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.loaded = list[str]()
        self._inside = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.loaded += [str(value) for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data
