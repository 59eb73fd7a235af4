"""Which machine this is: numbers that a copied disk or SD card does not take along.

They tell two boards of one model apart, change no latency and are no part of the fingerprint. Only
their hashes leave the device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

#: How Linux says that a network address is the hardware's own.
_PERMANENT = "0"


def hardware_ids(root: Path = Path("/")) -> list[str]:
    """Hashes of the board's serial number and of the addresses of its network hardware, after their
    kinds (``serial:…``, ``network:…``), sorted; none where the system does not tell, as in
    containers.
    """
    found = {*_serial_numbers(root), *_network_addresses(root)}
    return sorted(f"{kind}:{_hash(f'{kind} {number}')}" for kind, number in found)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _serial_numbers(root: Path) -> Iterator[tuple[str, str]]:
    serial = _read(root / "proc/device-tree/serial-number").strip("\0")
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "Serial":
            serial = serial or value.strip()
    if serial.strip("0"):
        yield "serial", serial


def _network_addresses(root: Path) -> Iterator[tuple[str, str]]:
    for card in (root / "sys/class/net").glob("*"):
        address = _read(card / "address")
        is_own = _read(card / "addr_assign_type") == _PERMANENT and (card / "device").exists()
        if is_own and address.strip("0:"):
            yield "network", address


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
