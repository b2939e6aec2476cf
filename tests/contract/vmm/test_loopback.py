"""Ports of the host: which are free, and which are chosen."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from engine.resolve.host_ports import pick_port, port_is_free
from engine.resolve.mounts_and_ports import wanted_forwards
from sandboxfile import load
from vmm.spec import HostForward


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_with_a_listener_is_not_free(address: str) -> None:
    with socket.socket() as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)


def test_a_port_that_was_just_used_is_free() -> None:
    """Connections in TIME_WAIT do not count."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            accepted.close()
            assert client.recv(1) == b""
    assert port_is_free(port)


def test_pick_port_gives_a_free_one() -> None:
    assert port_is_free(pick_port())


class Offers:
    """Sockets of a kernel that offers these ports, in turn."""

    def __init__(self, *ports: int) -> None:
        self.ports = list(ports)

    def __enter__(self) -> Offers:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def bind(self, address: object) -> None:
        self.port = self.ports.pop(0)

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self.port


def test_a_picked_port_is_none_that_somebody_is_about_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    offers = Offers(5000, 5001, 5002)
    monkeypatch.setattr(socket, "socket", lambda: offers)
    assert pick_port({5000, 5001}) == 5002


def test_ports_of_one_file_are_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Sandboxfile.yaml").write_text(
        'version: "1"\nports: ["5000:1", 2, 3, 4]\nservices: {a: {image: a, ports: ["5001:9"]}}\n'
    )
    offers = Offers(5000, 5001, 5002, 5003, 5003, 5004)
    monkeypatch.setattr(socket, "socket", lambda: offers)
    before = [HostForward(5002, 4)]
    forwards = wanted_forwards(load(tmp_path / "Sandboxfile.yaml"), before)
    assert [(one.host_port, one.guest_port) for one in forwards] == [
        (5000, 1),
        (5003, 2),
        (5004, 3),
        (5002, 4),
        (5001, 5001),
    ]
