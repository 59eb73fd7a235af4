"""Files that pages load: our own style sheet and script, and the plotly.js that the installed
plotly package ships. Each has a hash of its content in its address, so browsers keep it for good.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from latency_service.core.errors import NotFound
from latency_service.core.standalone import plotly_file
from latency_service.dashboard import palette

_FOLDER = Path(__file__).parent / "static"
_STYLE_ID = re.compile(r'getElementById\("([0-9a-f]{64})"\)')
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file as it is sent."""

    #: Name with a hash of the content, such as ``dashboard.3fd1a0c2.css``.
    address: str
    media_type: str
    content: bytes

    @cached_property
    def compressed(self) -> bytes:
        """The content in gzip's form."""
        return gzip.compress(self.content, mtime=0)


@lru_cache
def asset(name: str) -> Asset:
    """The asset of that name: a file of the folder ``static``, ``palette.css`` or ``plotly.js``."""
    content = _content(name)
    stem, dot, suffix = name.rpartition(".")
    digest = hashlib.sha256(content).hexdigest()[:12]
    return Asset(
        address=f"{stem}.{digest}{dot}{suffix}", media_type=_TYPES[dot + suffix], content=content
    )


def named(address: str) -> Asset:
    """The asset with that address.

    Raises:
        NotFound: there is none, or not with this content any more.
    """
    stem, _, rest = address.partition(".")
    name = f"{stem}.{rest.rpartition('.')[2]}"
    if name in _names() and asset(name).address == address:
        return asset(name)
    raise NotFound(f"There is no file {address!r}.", "Load the page again: it names the new file.")


@lru_cache
def plotly_style_ids() -> tuple[str, ...]:
    """Ids of the style elements that plotly's script adds to a page unless they are there: the
    content security policy would refuse them, and nothing here needs them.
    """
    return tuple(sorted(set(_STYLE_ID.findall(asset("plotly.js").content.decode()))))


@lru_cache
def _names() -> frozenset[str]:
    own = {path.name for path in _FOLDER.iterdir() if path.suffix in _TYPES}
    return frozenset(own | {"palette.css", "plotly.js"})


def _content(name: str) -> bytes:
    if name == "palette.css":
        return palette.style_sheet().encode()
    if name == "plotly.js":
        return plotly_file().read_bytes()
    return (_FOLDER / name).read_bytes()
