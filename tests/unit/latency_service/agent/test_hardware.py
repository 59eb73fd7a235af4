from __future__ import annotations

from pathlib import Path

import pytest

from latency_service.agent.hardware import hardware_ids


def card(root: Path, name: str, address: str, *, own: str = "0", device: bool = True) -> None:
    folder = root / "sys/class/net" / name
    folder.mkdir(parents=True)
    (folder / "address").write_text(f"{address}\n")
    (folder / "addr_assign_type").write_text(f"{own}\n")
    if device:
        (folder / "device").mkdir()


def serial(root: Path, value: str) -> None:
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/device-tree/serial-number").write_text(f"{value}\0")


def test_a_board_is_known_by_its_serial_number_and_its_network_hardware(tmp_path: Path) -> None:
    serial(tmp_path, "100000001234")
    card(tmp_path, "eth0", "dc:a6:32:00:00:01")
    found = hardware_ids(tmp_path)
    assert [each.split(":")[0] for each in found] == ["network", "serial"]
    assert not any("1234" in each or "dc:a6" in each for each in found)


def test_the_same_serial_number_in_the_processor_s_list(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    serial(tmp_path / "a", "1234")
    (tmp_path / "b/proc").mkdir(parents=True)
    (tmp_path / "b/proc/cpuinfo").write_text("processor : 0\nSerial\t\t: 1234\n")
    assert hardware_ids(tmp_path / "a") == hardware_ids(tmp_path / "b") != []


@pytest.mark.parametrize(
    ("address", "own", "device"),
    [
        ("02:42:ac:11:00:02", "0", False),
        ("02:42:ac:11:00:02", "1", True),
        ("00:00:00:00:00:00", "0", True),
    ],
    ids=["virtual", "drawn at random", "loopback"],
)
def test_addresses_that_are_not_the_hardware_s_do_not_count(
    tmp_path: Path, address: str, own: str, device: bool
) -> None:
    card(tmp_path, "eth0", address, own=own, device=device)
    assert hardware_ids(tmp_path) == []


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    serial(tmp_path, "0000000000000000")
    assert hardware_ids(tmp_path) == []
