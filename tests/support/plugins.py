"""Packages with pruning methods, as pip leaves them in a folder."""

from __future__ import annotations

from pathlib import Path

#: A method that names itself "own".
SOURCE = """
from dataclasses import dataclass
@dataclass(frozen=True, kw_only=True)
class Own:
    rounds: int = 3
    share: float | None = None
    kernel: tuple[int, int] = (1, 1)
    @property
    def name(self):
        return "own"
    def run(self, context):
        raise NotImplementedError
"""


def install(
    folder: Path,
    source: str = SOURCE,
    *,
    name: str = "own",
    attribute: str = "Own",
    package: str = "plugin",
) -> str:
    """Write a package of version 1.5 whose entry point is `attribute` of a module with `source`,
    and return the name of the module.
    """
    # no two tests share a module
    module = f"{package}_of_{folder.name.replace('-', '_')}"
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{package}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    entry = f"[pruning_client.methods]\n{name} = {module}:{attribute}\n"
    (info / "entry_points.txt").write_text(entry)
    return module
