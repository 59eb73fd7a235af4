"""``python -m tools.documentation`` builds the site; ``make docs`` installs what that needs."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tools.documentation.staging import ROOT, Staging

#: The generator's configuration, in the repository and beside the gathered pages.
CONFIGURATION = "mkdocs.yml"


def build(folder: Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Gather the pages in `folder`/pages and make the site in `folder`/site.

    Any warning of the generator makes it fail.
    """
    Staging(root, folder / "pages").write()
    shutil.copyfile(root / "docs" / CONFIGURATION, folder / CONFIGURATION)
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def main() -> int:
    """Exit code 0 when the site is made without a warning."""
    parser = argparse.ArgumentParser(prog="python -m tools.documentation", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs")
    folder: Path = parser.parse_args().out
    ended = build(folder)
    print(ended.stdout, end="")
    if ended.returncode == 0:
        site = folder / "site"
        print(f"Read it with: {sys.executable} -m http.server --directory {site} 8000")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
