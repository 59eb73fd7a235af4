"""Addresses of pages by their names, under whatever path a proxy serves them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

#: Path of each page by its name, filled when pages are declared.
_paths: dict[str, str] = {}


def declare(name: str, path: str) -> None:
    """Note under which path a page is found.

    Raises:
        ValueError: the name is taken.
    """
    if _paths.setdefault(name, path) != path:
        raise ValueError(f"two pages are named {name!r}: {_paths[name]} and {path}")


def declared() -> dict[str, str]:
    """Path of each page by its name."""
    return dict(_paths)


def is_declared(name: str) -> bool:
    return name in _paths


def link(root: str, name: str, query: Mapping[str, object] | None = None, /, **path: str) -> str:
    """The address of a page.

    Args:
        root: path under which the service is served, without a slash at its end.
        query: query parameters; those that are None or empty are left out.
        path: parameters of the path.
    """
    address = root + _paths[name].format(**{key: quote(v, safe="") for key, v in path.items()})
    chosen = {key: value for key, value in (query or {}).items() if value not in (None, "")}
    return f"{address}?{urlencode(chosen, doseq=True)}" if chosen else address
