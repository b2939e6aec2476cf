"""Sockets that only their user can reach."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from vmm.errors import VmmError
from vmm.unix_socket import PATH_MAX, bind_private


def test_nobody_else_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with bind_private(Path("s")):
        assert stat.S_IMODE(Path("s").stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect("s")  # it does not listen yet


def test_a_socket_that_was_left_is_replaced_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bind_private(Path("s")).close()
    with bind_private(Path("s")) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.listen()
        client.connect("s")
    Path("file").write_text("mine")
    with pytest.raises(OSError):
        bind_private(Path("file"))
    assert Path("file").read_text() == "mine"


def test_a_path_that_is_too_long_is_told(tmp_path: Path) -> None:
    path = tmp_path / ("x" * PATH_MAX)
    with pytest.raises(VmmError, match="the path of a socket is longer than"):
        bind_private(path)
    assert not path.exists()
