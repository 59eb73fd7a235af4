from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import latency_service.app, latency_service.db.tables
print(*sorted({"torch", "sklearn", "pandas", "plotly", "scipy", "matplotlib"} & set(sys.modules)))
"""


def test_the_service_imports_nothing_heavy() -> None:
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
