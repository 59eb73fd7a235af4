"""Address of the service and token to send there: one rule for every program.

The address is the one given, then ``LATENCY_SERVICE_URL``, then the embedded service's. The token
is the one given, then ``LATENCY_SERVICE_TOKEN``, then the embedded service's own, which is sent to
this machine's loopback addresses only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from latency_service.core import tokens
from latency_service.core.files import create_whole
from latency_service.core.transport import ApiError

DEFAULT_URL = "http://127.0.0.1:8760"
#: Fewest characters of an API token.
MIN_TOKEN_LENGTH = 16


class BadAddress(ApiError):
    """The address is not one of an HTTP service."""

    def __init__(self, url: str) -> None:
        super().__init__(
            0,
            "bad_address",
            f"{url!r} is not the address of a service.",
            "Give an address such as http://127.0.0.1:8760.",
        )


class BadToken(ApiError):
    """A token is blank or too short: nothing is sent with it, and no service accepts it."""

    def __init__(self, where: str, cure: str) -> None:
        super().__init__(
            401,
            "bad_token",
            f"The token {where} is empty or shorter than {MIN_TOKEN_LENGTH} characters.",
            cure,
        )


class MistypedToken(ApiError):
    """A token begins as the service's tokens do, and its checksum is wrong."""

    def __init__(self, where: str, cure: str) -> None:
        super().__init__(
            401, "bad_token", f"The token {where} is mistyped or cut: its checksum is wrong.", cure
        )


class UnreadableToken(ApiError):
    """The token file exists and cannot be read as text."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            401,
            "bad_token",
            f"The token file {path} cannot be read.",
            "Give its owner the right to read it, or delete it and start the service again: it "
            "makes a new token.",
        )


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Where to send requests, and as whom."""

    url: str
    #: API token; None where there is none to send.
    token: str | None = field(repr=False)


def resolve(url: str | None = None, token: str | None = None) -> Credentials:
    """Address and token of the service to talk to.

    Args:
        url: by default LATENCY_SERVICE_URL, then the embedded service's address.
        token: by default LATENCY_SERVICE_TOKEN, then, for a loopback address, the embedded
            service's own.

    Raises:
        BadAddress: the address is not one of an HTTP service.
        BadToken: the token that applies is blank or too short.
        MistypedToken: its checksum is wrong.
    """
    address = url or os.environ.get("LATENCY_SERVICE_URL") or DEFAULT_URL
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadAddress(address)
    return Credentials(url=address, token=_token_for(address, token))


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def default_data_dir() -> Path:
    """``$XDG_DATA_HOME/latency-service``, by default ``~/.local/share/latency-service``."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "latency-service"


def token_path(data_dir: Path) -> Path:
    """The file in which the embedded service keeps its API token."""
    return data_dir / "token"


def kept_token(data_dir: Path) -> str | None:
    """The API token that a service keeps in its data directory; None before its first start, and
    where this user may not read the file.

    Raises:
        BadToken: the file is empty or cut, as a full disk may have left it.
        UnreadableToken: the file is not text.
    """
    path = token_path(data_dir)
    try:
        token = path.read_text().strip()
    except OSError:
        return None
    except UnicodeDecodeError as error:
        raise UnreadableToken(path) from error
    if len(token) < MIN_TOKEN_LENGTH:
        raise BadToken(
            f"in {path}", "Delete the file and start the service again: it makes a new token."
        )
    return token


def make_token(data_dir: Path) -> str:
    """The API token kept in the data directory, made on first use; its owner alone may read it.

    Raises:
        BadToken: the file is empty or cut.
        UnreadableToken: the file exists and cannot be read.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = kept_token(data_dir)
    if kept is not None:
        return kept
    token = tokens.make("user")
    if create_whole(token_path(data_dir), token.encode()):
        return token
    kept = kept_token(data_dir)
    if kept is None:
        raise UnreadableToken(token_path(data_dir))
    return kept


def _token_for(url: str, token: str | None) -> str | None:
    if token is not None:
        return _checked(token, "given", "Give the API token, or leave it out.")
    from_environment = os.environ.get("LATENCY_SERVICE_TOKEN")
    if from_environment:
        return _checked(from_environment, "in LATENCY_SERVICE_TOKEN", "Set it anew, or unset it.")
    return _embedded_token() if is_loopback(url) else None


def _checked(token: str, where: str, cure: str) -> str:
    stripped = token.strip()
    if len(stripped) < MIN_TOKEN_LENGTH:
        raise BadToken(where, cure)
    if tokens.has_prefix(stripped) and not tokens.is_well_formed(stripped):
        raise MistypedToken(where, cure)
    return stripped


def _embedded_token() -> str | None:
    """The API token of the embedded service on this machine, as set or as kept."""
    as_set = os.environ.get("LATENCY_SERVICE_API_TOKEN")
    if as_set:
        return _checked(as_set, "in LATENCY_SERVICE_API_TOKEN", "Set it anew, or unset it.")
    folder = os.environ.get("LATENCY_SERVICE_DATA_DIR")
    return kept_token(Path(folder) if folder else default_data_dir())
