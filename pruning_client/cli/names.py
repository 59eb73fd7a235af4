"""Completion of the names of methods in shells."""

from __future__ import annotations

from pruning_client.methods.names import BUILT_IN


def method_names(incomplete: str) -> list[str]:
    """Names of methods that begin so, of installed packages too; nothing of them is imported."""
    from pruning_client.methods import plugins

    names = [*BUILT_IN, *plugins.installed(BUILT_IN)]
    return [name for name in names if name.startswith(incomplete)]
