from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from latency_service.settings import Settings


@pytest.fixture(autouse=True)
def own_data_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_data_lie_in_the_users_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings().url == f"sqlite:///{tmp_path}/latency-service/service.db"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Settings().data_dir == Path("/home/somebody/.local/share/latency-service")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_gets_its_driver(scheme: str) -> None:
    assert (
        Settings(database_url=f"{scheme}://u:p@host/name").url
        == "postgresql+psycopg://u:p@host/name"
    )


def test_environment_has_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENCY_SERVICE_LEASE_SECONDS", "7.5")
    assert Settings().lease_seconds == 7.5


@pytest.mark.parametrize(
    "token", ["changeme", "ChangeThis", " secret ", "short", "", " " * 20, "short" + " " * 20]
)
def test_known_short_and_blank_secrets_are_refused(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENCY_SERVICE_API_TOKEN", token)
    with pytest.raises(ValidationError, match=r"secrets\.token_urlsafe"):
        Settings()


def test_token_is_made_once_and_only_its_owner_may_read_it() -> None:
    settings = Settings()
    token = settings.token
    assert len(token) >= 32
    assert Settings().token == token == settings.token_path.read_text()
    assert stat.S_IMODE(settings.token_path.stat().st_mode) == 0o600


def test_given_token_is_used_and_not_kept() -> None:
    settings = Settings(api_token=f" {'x' * 20}\n")
    assert settings.token == "x" * 20
    assert not settings.token_path.exists()
    assert "x" * 20 not in repr(settings)


@pytest.mark.parametrize("proxies", ["", "10.1.2.3", "10.1.0.0/16", "::1, fd00:87::/64"])
def test_proxies_are_addresses_and_networks(proxies: str) -> None:
    assert Settings(trusted_proxies=proxies).trusted_proxies == proxies


@pytest.mark.parametrize("proxies", ["*", "proxy", "10.1.2.3/16", "10.1.2.3,", "set-me"])
def test_proxies_that_no_connection_comes_from_are_refused(proxies: str) -> None:
    with pytest.raises(ValidationError, match=r"LATENCY_SERVICE_TRUSTED_PROXIES: .* such as 10\."):
        Settings(trusted_proxies=proxies)
