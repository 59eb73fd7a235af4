"""The service listens where others can hear only with TLS, behind a proxy, or when told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_service.cli.common import CommandError
from latency_service.cli.listening import check_binding, listen
from latency_service.core import exit_codes
from latency_service.settings import Settings
from tests.support.outcomes import Run

OPEN_HOSTS = ["0.0.0.0", "::", "", "192.168.1.4", "board.example", "localhost.example"]


def settings(tmp_path: Path, **more: object) -> Settings:
    return Settings.model_validate({"data_dir": tmp_path, **more})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_nothing(host: str, tmp_path: Path) -> None:
    check_binding(settings(tmp_path, host=host))


@pytest.mark.parametrize("host", OPEN_HOSTS)
def test_other_addresses_are_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError) as refused:
        check_binding(settings(tmp_path, host=host))
    assert (refused.value.code, refused.value.exit_code) == ("insecure_binding", exit_codes.INVALID)
    for way in ("TLS_CERTIFICATE", "TRUSTED_PROXIES", "ALLOW_PLAINTEXT", "--insecure-bind"):
        assert way in refused.value.cure


@pytest.mark.parametrize(
    "allowed",
    [
        {"tls_certificate": "cert.pem", "tls_key": "key.pem"},
        {"trusted_proxies": "10.0.0.0/8"},
        {"allow_plaintext": True},
    ],
)
def test_other_addresses_are_allowed_with(allowed: dict[str, object], tmp_path: Path) -> None:
    check_binding(settings(tmp_path, host="0.0.0.0", **allowed))


@pytest.mark.parametrize("half", ["tls_certificate", "tls_key"])
def test_half_of_the_tls_settings_is_refused(half: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="belong together"):
        check_binding(settings(tmp_path, **{half: "file.pem"}))


def test_up_does_not_pretend_to_speak_tls(tmp_path: Path) -> None:
    both = settings(tmp_path, tls_certificate="cert.pem", tls_key="key.pem")
    with pytest.raises(CommandError, match="does not speak TLS"):
        check_binding(both, speaks_tls=False)


@pytest.mark.parametrize("command", ["serve", "up"])
def test_commands_refuse_before_they_do_anything(
    command: str, run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENCY_SERVICE_HOST", "0.0.0.0")
    outcome = run(command)
    assert outcome.code == exit_codes.INVALID
    assert "LATENCY_SERVICE_TRUSTED_PROXIES" in outcome.err
    assert not data_dir.exists()


@pytest.mark.parametrize(
    ("host", "port", "code", "options"),
    [
        ("127.0.0.1", None, "port_taken", ("--port", "LATENCY_SERVICE_PORT")),
        ("203.0.113.7", 0, "bad_host", ("--host", "LATENCY_SERVICE_HOST")),
        ("no such host", 0, "bad_host", ("--host", "LATENCY_SERVICE_HOST")),
    ],
    ids=["taken", "of another machine", "unknown"],
)
def test_the_cure_names_the_option_and_the_variable(
    host: str, port: int | None, code: str, options: tuple[str, ...]
) -> None:
    with listen("127.0.0.1", 0) as taken:
        wanted = taken.getsockname()[1] if port is None else port
        with pytest.raises(CommandError) as refused:
            listen(host, wanted)
    assert refused.value.code == code
    assert all(option in refused.value.cure for option in options)
