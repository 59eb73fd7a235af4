"""The reverse proxy: nginx would take its files, and they fit what the service does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import crossplane
import pytest
import yaml

from latency_service.settings import Settings
from tests.support.units import seconds, size_bytes

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
TLS = "include /etc/nginx/tls.d/*.conf;"
Directives = list[tuple[tuple[str, ...], str, list[str]]]


@pytest.fixture(params=[False, True], ids=["plain", "with TLS"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """nginx.conf with its includes at their places."""
    text = (DEPLOY / "nginx.conf").read_text()
    assert TLS in text
    included = f"include {DEPLOY / 'tls.conf'};" if request.param else ""
    (tmp_path / "nginx.conf").write_text(text.replace(TLS, included))
    return tmp_path / "nginx.conf"


def directives(config: Path) -> Directives:
    """(blocks around it, name, arguments) of every directive."""
    parsed = crossplane.parse(str(config), strict=True, combine=True)
    assert parsed["errors"] == []
    found: Directives = []

    def walk(block: list[dict[str, Any]], around: tuple[str, ...]) -> None:
        for one in block:
            found.append((around, one["directive"], one["args"]))
            walk(one.get("block", []), (*around, one["directive"]))

    walk(parsed["config"][0]["parsed"], ())
    return found


def value_of(found: Directives, name: str) -> str:
    [value] = [args for around, directive, args in found if directive == name]
    return value[0]


def test_every_directive_is_known_and_in_its_place(config: Path) -> None:
    found = directives(config)
    assert ("http", "upstream") in {(around[0], name) for around, name, _ in found if around}
    servers = [1 for _, name, _ in found if name == "server" and _ == []]
    passes = [args for around, name, args in found if name == "proxy_pass"]
    assert passes == [["http://replicas"]] * len(servers)


@pytest.mark.parametrize("wrong", ["proxy_bufering off;", "listen 80;", "proxy_buffering maybe;"])
def test_a_wrong_directive_would_be_noticed(config: Path, wrong: str) -> None:
    config.write_text(config.read_text().replace("proxy_buffering off;", wrong))
    with pytest.raises(AssertionError, match="directive"):
        directives(config)


def test_it_holds_long_polls_and_takes_the_largest_file(config: Path) -> None:
    found = directives(config)
    settings = Settings()
    assert seconds(value_of(found, "proxy_read_timeout")) > settings.max_wait_seconds
    assert size_bytes(value_of(found, "client_max_body_size")) > settings.max_model_bytes
    assert value_of(found, "proxy_buffering") == "off"


def test_bodies_are_passed_on_as_they_come(config: Path) -> None:
    """So that no upload without a token is stored; chunked ones need HTTP/1.1 for that."""
    found = directives(config)
    assert value_of(found, "proxy_request_buffering") == "off"
    assert value_of(found, "proxy_http_version") == "1.1"


def test_clients_cannot_pretend_to_be_others(config: Path) -> None:
    set_headers = dict(args for _, name, args in directives(config) if name == "proxy_set_header")
    assert set_headers["X-Forwarded-For"] == "$remote_addr"
    assert set_headers["X-Forwarded-Proto"] == "$scheme"


def test_it_asks_for_the_replicas_of_the_compose_file(config: Path) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    [upstream] = [
        args
        for around, name, args in directives(config)
        if "upstream" in around and name == "server"
    ]
    name, port = upstream[0].split(":")
    words = compose["services"][name]["command"]
    assert words[words.index("--port") + 1] == port
    assert "resolve" in upstream


def test_the_file_for_tls_adds_to_the_proxy_only() -> None:
    added = yaml.safe_load((DEPLOY / "docker-compose.tls.yml").read_text())["services"]
    assert added.keys() == {"proxy"}
    [source] = [place.split(":")[0] for place in added["proxy"]["volumes"] if "tls.conf" in place]
    assert (ROOT / source).is_file()
    [port] = added["proxy"]["ports"]
    listens = re.findall(r"listen (\d+) ssl;", (DEPLOY / "tls.conf").read_text())
    assert listens == [port.split(":")[1]]


def _nginx_version() -> tuple[int, ...]:
    if shutil.which("nginx") is None:
        return ()
    told = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return tuple(map(int, re.findall(r"\d+", told)[:3]))


# servers of an upstream are looked up again since that version
@pytest.mark.skipif(_nginx_version() < (1, 27, 3), reason="needs nginx 1.27.3 or newer")
def test_nginx_itself_takes_it(tmp_path: Path) -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    (tmp_path / "nginx.conf").write_text(text)
    subprocess.run(["nginx", "-t", "-c", str(tmp_path / "nginx.conf")], check=True)
