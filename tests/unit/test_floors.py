"""What the import contracts cannot say: the client's list of allowed imports, and no circles."""

from __future__ import annotations

import re

import grimp
import pytest

#: Everything of the service that the client may import.
ALLOWED = re.compile(
    r"latency_service\.(core(\..+)?|\w+\.schemas|spaces\.(errors|layers|plan|slicing|weightless)"
    r"|measurements\.(shares|statistics)|predictors\.binary)"
)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("latency_service", "pruning_client", cache_dir=None)


def test_the_client_imports_only_core_wire_schemas_and_pure_modules(
    graph: grimp.ImportGraph,
) -> None:
    used = {
        (importer, imported)
        for importer in graph.modules
        if importer.startswith("pruning_client")
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.startswith("latency_service.")
    }
    assert used
    assert {pair for pair in used if not ALLOWED.fullmatch(pair[1])} == set()


def test_no_two_modules_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    """Circles are found by removing, again and again, modules that import none that is left."""
    left = {
        module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules
    }
    while free := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    assert sorted(left) == []
