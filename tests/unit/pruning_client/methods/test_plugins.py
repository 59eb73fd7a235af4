"""Methods of other packages: installed as files, as pip would leave them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pruning_client.errors import PruningWarning, UsageError
from pruning_client.methods.names import BUILT_IN
from pruning_client.methods.plugins import PluginError
from pruning_client.methods.registry import METHODS, default_method, listed, method_of
from tests.support import plugins
from tests.support.plugins import SOURCE

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """`plugins.install` into a folder of this test."""
    monkeypatch.syspath_prepend(tmp_path)

    return partial(plugins.install, tmp_path)


def test_a_method_of_another_package_is_found_with_its_options(install: Install) -> None:
    install()
    method = method_of("own", rounds=5)
    assert type(method).__name__ == "Own"
    assert method == type(method)(rounds=5)
    with pytest.raises(UsageError, match="'own' has no option 'epochs'"):
        method_of("own", epochs=1)


def test_a_package_is_imported_when_its_method_is_asked_for_only(install: Install) -> None:
    module = install()
    default_method("l1")
    with pytest.raises(UsageError) as caught:
        default_method("magic")
    assert "own" in caught.value.cure
    assert module not in sys.modules
    default_method("own")
    assert module in sys.modules


@pytest.mark.parametrize(
    ("source", "attribute", "cause"),
    [
        ("import nowhere_to_be_found", "Own", "ModuleNotFoundError: No module named 'nowhere"),
        (SOURCE, "Other", "AttributeError"),
        ("raise SystemExit('no licence')", "Own", "SystemExit: no licence"),
        ("def Own(): raise ValueError('no key')", "Own", "ValueError: no key"),
        ("Own = 3", "Own", "it is int, not an instance of a dataclass"),
        (SOURCE.replace("frozen=True, ", ""), "Own", "the dataclass Own is not frozen"),
        (SOURCE.replace("def run", "def start"), "Own", r"Own has no run\(context\)"),
        (SOURCE.replace('"own"', '"l1"'), "Own", "its name is 'l1', which differs from that of"),
        (SOURCE.replace("rounds: int = 3", "rounds: int"), "Own", "TypeError"),
    ],
)
def test_a_broken_method_is_an_error_that_names_the_package(
    source: str, attribute: str, cause: str, install: Install
) -> None:
    install(source, attribute=attribute)
    with pytest.raises(PluginError, match=f"'own' of plugin 1.5 .*{cause}") as caught:
        default_method("own")
    assert caught.value.exit_code == 2


def test_a_list_leaves_out_a_broken_method_with_a_warning(install: Install) -> None:
    install("import nowhere_to_be_found", name="broken", package="bad")
    install()
    with pytest.warns(PruningWarning, match="'broken' of bad 1.5 cannot be loaded"):
        found = listed()
    assert [one.name for one in found] == [*METHODS, "own"]
    assert [one.package for one in found if one.package] == ["plugin 1.5"]


def test_a_built_in_name_cannot_be_taken(install: Install) -> None:
    module = install(SOURCE.replace('"own"', '"l1"'), name="l1")
    with pytest.warns(PruningWarning, match="'l1' of plugin 1.5 is ignored"):
        assert default_method("l1") is METHODS["l1"]
    with pytest.warns(PruningWarning, match="built-in"):
        assert [one.name for one in listed()] == list(METHODS)
    assert module not in sys.modules


def test_of_two_packages_with_one_name_neither_is_used(install: Install) -> None:
    install()
    install(package="second")
    with pytest.raises(PluginError, match=r"ambiguous: plugin 1\.5 and second 1\.5 have one"):
        default_method("own")
    with pytest.warns(PruningWarning, match="ambiguous"):
        assert [one.name for one in listed()] == list(METHODS)


def test_without_other_packages_nothing_is_said() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [one.name for one in listed()] == list(METHODS)


def test_names_that_are_known_without_torch_are_those_of_the_methods() -> None:
    assert tuple(METHODS) == BUILT_IN
