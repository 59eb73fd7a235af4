"""Pages that are one file: their script is in them, and they may ask nobody for anything."""

from __future__ import annotations

import html
from importlib.util import find_spec
from pathlib import Path

#: What a browser may do with the file: run and show what is in it, and nothing from elsewhere.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; form-action 'none'; base-uri 'none'"
)
#: Width of the page's text and figures, pixels.
WIDTH = 960
#: Width of an A4 page between its margins, pixels.
_PAPER_WIDTH = 718
#: A figure has the size that it was drawn in: the whole page is made smaller, so that none is cut.
_PRINT = f"""
@page {{ size: A4; margin: 12mm; }}
@media print {{
  html {{ zoom: {_PAPER_WIDTH / WIDTH:.3f}; }}
  body {{ background: #fff; }}
  main {{ width: {WIDTH}px; max-width: none; padding: 0; margin: 0; }}
  button, details > summary {{ display: none; }}
  h1, h2, h3, figcaption, .note {{ break-after: avoid; }}
  figure, .plotly-graph-div, .warning, tr, pre, dl > div {{ break-inside: avoid; }}
  .scroll, pre {{ overflow: visible; }}
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
}}
"""


def head() -> str:
    """What the head of such a page begins with, as HTML: its policy, the style of its print, and
    plotly's script.
    """
    policy = html.escape(CONTENT_SECURITY_POLICY)
    return (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<style>{_PRINT}</style>\n"
        f"<script>{plotly_file().read_text()}</script>"
    )


def plotly_file() -> Path:
    """Plotly's script in the installed package, which is not imported for it."""
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
