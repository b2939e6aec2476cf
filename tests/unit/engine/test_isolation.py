"""The guards of conftest.py are there: a test that forgets itself fails instead of touching the user's things."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest


def test_home_is_not_the_users(tmp_path: Path) -> None:
    assert Path.home() == tmp_path / "home"


def test_addresses_elsewhere_are_refused() -> None:
    with socket.socket() as client, pytest.raises(pytest.fail.Exception, match="connected to"):
        client.connect(("192.0.2.1", 80))


def test_names_elsewhere_are_refused() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"looked up 'www\.example\.com'"):
        socket.create_connection(("www.example.com", 80))


def test_the_own_host_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(("localhost", server.getsockname()[1])):
            pass


def test_unix_sockets_are_allowed(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"


@pytest.mark.real_cache
def test_real_cache_leaves_state_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    assert os.environ["SANDBOX_STATE_DIR"] == str(tmp_path / "state")
    assert str(tmp_path) not in os.environ["SANDBOX_CACHE_DIR"]
