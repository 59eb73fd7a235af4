"""Raw connections to a service: half-open, slow, greedy, or many."""

from __future__ import annotations

import re
import socket
import ssl
import time
from contextlib import suppress
from urllib.parse import urlsplit

_END_OF_HEAD = b"\r\n\r\n"
#: What one hears on a connection that the other side has closed.
CLOSED = (ConnectionError, ssl.SSLError)


def connect(url: str, *sent: bytes, seconds: float = 20.0) -> socket.socket:
    """A connection on which `sent` was sent, after the handshake if the address is of TLS. Any
    certificate will do.
    """
    address = urlsplit(url)
    assert address.hostname is not None
    connection = socket.create_connection((address.hostname, address.port or 80), timeout=seconds)
    if address.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    for part in sent:
        connection.sendall(part)
    return connection


def head(method: str, path: str, **headers: str) -> bytes:
    """A request's head; underscores in names of headers stand for dashes."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: x", *lines, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes the connection; a reset counts as closing."""
    received = b""
    with suppress(*CLOSED):
        while part := connection.recv(65536):
            received += part
    return received


def read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of one answer that states its length, however many segments bring it. They are
    shorter when the other side closes the connection before.
    """
    received = b""
    while not _is_whole(received):
        try:
            part = connection.recv(65536)
        except CLOSED:
            break
        if not part:
            break
        received += part
    head, end, body = received.partition(_END_OF_HEAD)
    return head + end, body


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(_END_OF_HEAD)
    stated = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return bool(end) and len(body) >= (int(stated[1]) if stated else 0)


def seconds_until_closed(connection: socket.socket) -> float:
    began = time.monotonic()
    read_all(connection)
    return time.monotonic() - began


def send_what_goes(connection: socket.socket, content: bytes) -> int:
    """Send until the other side refuses; how many bytes went out."""
    sent = 0
    with suppress(*CLOSED):
        while sent < len(content):
            sent += connection.send(content[sent : sent + 65536])
    return sent


def drip(connection: socket.socket, part: bytes, most_seconds: float) -> float:
    """Send `part` five times a second until the other side closes the connection, or for
    `most_seconds`; how long that took.
    """
    began = time.monotonic()
    with suppress(*CLOSED):
        while time.monotonic() - began < most_seconds:
            connection.sendall(part)
            time.sleep(0.2)
    return time.monotonic() - began
