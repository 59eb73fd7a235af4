"""One rule for address and token: short tokens go nowhere, the embedded one stays here."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from latency_service.core import credentials, tokens
from latency_service.core.client import Client
from latency_service.core.credentials import (
    DEFAULT_URL,
    BadAddress,
    BadToken,
    MistypedToken,
    UnreadableToken,
    is_loopback,
    kept_token,
    make_token,
    resolve,
)

KEPT = "kept-by-the-embedded-service"


@pytest.fixture(autouse=True)
def data_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An own data directory that holds a token, and nothing else in the environment."""
    for name in ("URL", "TOKEN", "API_TOKEN", "DATA_DIR"):
        monkeypatch.delenv(f"LATENCY_SERVICE_{name}", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = tmp_path / "latency-service"
    folder.mkdir()
    (folder / "token").write_text(f"{KEPT}\n")
    return folder


def test_the_embedded_token_is_sent_to_loopback_addresses_only() -> None:
    assert resolve().url == DEFAULT_URL
    assert resolve().token == KEPT
    assert resolve("http://[::1]:9").token == KEPT
    for url in ("http://10.0.0.7:8760", "https://service.example.org", "http://127.example.org"):
        assert resolve(url).token is None


def test_the_client_follows_the_same_rule() -> None:
    with Client("http://10.0.0.7:8760") as elsewhere, Client("http://127.0.0.1:9") as here:
        sent = [
            client._transport._http.headers.get("authorization") for client in (elsewhere, here)
        ]
    assert sent == [None, f"Bearer {KEPT}"]


def test_a_given_token_goes_before_the_environment_and_that_before_the_embedded_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LATENCY_SERVICE_TOKEN", "from-the-environment")
    monkeypatch.setenv("LATENCY_SERVICE_URL", "http://board.example.org:8760")
    assert resolve().url == "http://board.example.org:8760"
    assert resolve().token == "from-the-environment"
    assert resolve(token=" given-on-the-command-line ").token == "given-on-the-command-line"


@pytest.mark.parametrize("token", ["", "   ", "short"])
def test_blank_and_short_tokens_are_refused_before_anything_is_sent(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadToken, match="empty or shorter than 16"):
        resolve(token=token)
    if token.strip():
        monkeypatch.setenv("LATENCY_SERVICE_TOKEN", token)
        with pytest.raises(BadToken, match="LATENCY_SERVICE_TOKEN"):
            resolve()


def test_a_mistyped_token_of_the_service_is_refused_before_anything_is_sent() -> None:
    token = tokens.make("user")
    assert resolve(token=token).token == token
    for mistyped in (token[:-1], token[:10] + token[11:], token + "x"):
        with pytest.raises(MistypedToken, match="checksum") as caught:
            resolve(token=mistyped)
        assert mistyped not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n", "cut-short"])
def test_a_token_file_that_a_full_disk_left_empty_opens_nothing(
    content: str, data_dir: Path
) -> None:
    (data_dir / "token").write_text(content)
    for read in (resolve, lambda: kept_token(data_dir), lambda: make_token(data_dir)):
        with pytest.raises(BadToken) as caught:
            read()
        assert str(data_dir / "token") in caught.value.message
        assert "Delete the file" in caught.value.cure


@pytest.mark.parametrize("kind", ["folder", "dangling link", "not text"])
def test_a_token_file_that_cannot_be_read_is_named(kind: str, data_dir: Path) -> None:
    path = data_dir / "token"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to(data_dir / "gone")
    else:
        path.write_bytes(b"\xff" * 40)
    with pytest.raises(UnreadableToken, match="cannot be read") as caught:
        make_token(data_dir)
    assert str(path) in caught.value.message


def test_first_starts_at_the_same_time_agree_on_one_token(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    barrier = threading.Barrier(8)
    tokens: list[str] = []

    def start() -> None:
        barrier.wait()
        tokens.append(make_token(folder))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(tokens) == {(folder / "token").read_text()}
    assert len(tokens) == 8


@pytest.mark.parametrize("url", ["", "board:8760", "ftp://board", "http://"])
def test_an_address_is_http(url: str) -> None:
    if url:
        with pytest.raises(BadAddress, match="not the address of a service"):
            resolve(url)
    else:
        assert resolve(url).url == DEFAULT_URL


def test_what_is_this_machine() -> None:
    assert is_loopback("http://localhost:1")
    assert is_loopback("http://[::1]:1")
    assert not is_loopback("http://127.example.org")
    assert not is_loopback("https://service.example.org")
    assert "token" not in repr(credentials.Credentials(url=DEFAULT_URL, token=KEPT))
