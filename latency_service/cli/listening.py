"""Sockets that the service listens on, and when it may listen where others can hear."""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from latency_service.cli import common
from latency_service.core import exit_codes

if TYPE_CHECKING:
    from latency_service.settings import Settings

#: `up` has no option for the address.
_OTHER_HOST = "Give another: --host of `latency-service serve`, or LATENCY_SERVICE_HOST."


def check_binding(settings: Settings, *, speaks_tls: bool = True) -> None:
    """Return if the tokens of whoever talks to the service cannot be read on the network: it
    listens on loopback only, speaks TLS, or stands behind a trusted proxy; or the settings allow
    it.

    Args:
        speaks_tls: whether this program can speak TLS.

    Raises:
        CommandError: they can be read, or the settings of TLS are incomplete.
    """
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise _refusal(
            "LATENCY_SERVICE_TLS_CERTIFICATE and LATENCY_SERVICE_TLS_KEY belong together.",
            "Set both or none.",
        )
    if settings.tls_certificate is not None and not speaks_tls:
        raise _refusal(
            "This command does not speak TLS.",
            "Unset LATENCY_SERVICE_TLS_CERTIFICATE, or use `latency-service serve`.",
        )
    is_safe = settings.tls_certificate is not None or settings.trusted_proxies
    if not (is_safe or settings.allow_plaintext or _is_loopback(settings.host)):
        raise _refusal(
            f"On {settings.host!r} everybody on the network could read the tokens: there is "
            "neither TLS nor a trusted proxy.",
            "Set LATENCY_SERVICE_TLS_CERTIFICATE and LATENCY_SERVICE_TLS_KEY, or name the reverse "
            "proxy that ends TLS in LATENCY_SERVICE_TRUSTED_PROXIES. To listen all the same: "
            "LATENCY_SERVICE_ALLOW_PLAINTEXT=1 or --insecure-bind.",
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        CommandError: the port is taken or not permitted, or the host is not this machine's.
    """
    listener, address = _unbound(host, port)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise _port_error(host, port, error) from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(message: str, cure: str) -> common.CommandError:
    return common.CommandError(message, cure, exit_code=exit_codes.INVALID, code="insecure_binding")


def _unbound(host: str, port: int) -> tuple[socket.socket, Any]:
    """A socket that is not bound yet, and the address for it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.socket(family, kind, protocol), address
    except OSError as error:
        raise common.CommandError(
            f"Cannot listen on {host!r}: {error}.", _OTHER_HOST, code="bad_host"
        ) from error


def _port_error(host: str, port: int, error: OSError) -> common.CommandError:
    if error.errno == errno.EADDRNOTAVAIL:
        return common.CommandError(
            f"{host!r} is not an address of this machine.", _OTHER_HOST, code="bad_host"
        )
    if error.errno == errno.EADDRINUSE:
        cause, cure = "is taken", "Stop the process that listens there, or give another"
    else:
        cause, cure = f"cannot be used ({os.strerror(error.errno or 0)})", "Give another"
    return common.CommandError(
        f"Port {port} on {host} {cause}.",
        f"{cure}: --port (0: any free one), or LATENCY_SERVICE_PORT.",
        code="port_taken",
    )
