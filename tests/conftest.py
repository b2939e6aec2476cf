"""Rules for every test: no test touches the user's own directories or, below unit and contract, the network.

`real_cache` (set for everything in tests/vm and tests/e2e) shares the user's cache, so that images are not built for
each test, and allows the network. Sandboxes and sockets stay in the test's own directories even then.
"""

from __future__ import annotations

import ipaddress
import os
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from engine.state import roots

# No timed asserts: on a busy machine an example takes as long as it takes.
hypothesis.settings.register_profile("sandbox", deadline=None)
hypothesis.settings.load_profile("sandbox")

HERE = Path(__file__).parent
SHARING = (HERE / "vm", HERE / "e2e")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_cache: shares the user's cache and may use the network")
    # A shell without job control starts what runs in its background deaf to ^C, and the commands under test with it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # So it is to SIGQUIT, and what `nohup` starts to a hangup; a shell that was deaf to one can never listen for it.
    for number in (signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    # Hundreds of streams need more descriptors than the 1024 that a login shell starts with.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in SHARING):
            item.add_marker("real_cache")


@pytest.fixture(autouse=True)
def isolated(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Redirect the roots, and $HOME; make the default roots and the network raise; hide the user's keyring."""
    # tmp_path is too long for a unix socket (108 bytes)
    runtime = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    shares = request.node.get_closest_marker("real_cache") is not None
    cache = Path(roots.platform_root("cache")) if shares else tmp_path / "cache"
    if not shares or "SANDBOX_CACHE_DIR" not in os.environ:
        monkeypatch.setenv("SANDBOX_CACHE_DIR", str(cache))
    monkeypatch.setenv("SANDBOX_CACHE_SIZE", "none")  # no test prunes what the user has built
    monkeypatch.setenv("SANDBOX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SANDBOX_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("SANDBOX_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for variable in [name for name in os.environ if name.startswith("XDG_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(roots, "platform_root", _refuse_root)
    if not shares:
        monkeypatch.setattr(socket.socket, "connect", _guard(socket.socket.connect))
        monkeypatch.setattr(socket.socket, "connect_ex", _guard(socket.socket.connect_ex))
        monkeypatch.setattr(socket, "getaddrinfo", _guard_names(socket.getaddrinfo))
    try:
        yield
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


def _refuse_root(root: str) -> str:
    pytest.fail(f"a test asked for the user's own {root} directory")


def _guard(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
            pytest.fail(f"a test without real_cache connected to {address}")
        return connect(self, address)

    return guarded


def _guard_names(getaddrinfo: Any) -> Any:
    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is not None and not _is_here(host) and not _is_literal(host):
            pytest.fail(f"a test without real_cache looked up {host!r}")
        return getaddrinfo(host, *args, **kwargs)

    return guarded


def _is_here(host: str | bytes) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    return name in ("", "localhost") or (_is_literal(name) and ipaddress.ip_address(name).is_loopback)


def _is_literal(host: str | bytes) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return True
