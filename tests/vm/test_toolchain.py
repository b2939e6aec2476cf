"""The toolchain, made for real: from the mirror, over a mirror that breaks off, on a disk that is full."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.build.toolchain import ToolchainError, build_toolchain, load_toolchain
from engine.build.toolchain.apt import _prepare
from engine.resolve.debian import DebianMirrors, debian_mirrors
from vmm.process import run


def make(directory: Path, **options: object) -> None:
    asyncio.run(build_toolchain(directory, progress=print, **options))  # type: ignore[arg-type]


def test_it_runs_from_wherever_it_was_moved_to(tmp_path: Path) -> None:
    make(tmp_path / "made")
    (tmp_path / "made").rename(tmp_path / "moved")
    tools = load_toolchain(tmp_path / "moved")
    for tool in (tools.qemu, tools.qemu_img, tools.mkfs_erofs):
        assert str(tmp_path / "made") not in " ".join(tool.argv)
        asyncio.run(run(tool.command("--version"), env=tool.env, timeout_s=30))
    assert tools.kernel.is_file() and tools.busybox.is_file()
    assert (tools.modules / "modules.dep").stat().st_size > 0
    assert not (tmp_path / "moved/work").exists()


def test_hooks_of_the_host_are_not_run(tmp_path: Path) -> None:
    """A host may have a shell command run after each update; ours is no update of that host."""
    hooks = tmp_path / "hooks.conf"
    hooks.write_text('APT::Update::Post-Invoke {"touch /x";};\nDPkg::Post-Invoke {"touch /y";};\n')
    _prepare(tmp_path, "trixie", Path("/keys.gpg"), DebianMirrors("http://mirror.example/debian", None))
    argv = ["apt-config", "-c", str(tmp_path / "apt.conf"), "dump"]
    dumped = asyncio.run(run(argv, env={"APT_CONFIG": str(hooks)}, timeout_s=30)).stdout.decode()
    assert "touch" not in dumped
    assert f'Dir::State "{tmp_path}/state"' in dumped


def test_packages_that_no_key_vouches_for_are_refused(tmp_path: Path) -> None:
    keyring = tmp_path / "empty.gpg"
    keyring.write_bytes(b"")
    with pytest.raises(ToolchainError) as caught:
        make(tmp_path / "made", keyring=keyring)
    assert caught.value.hint is not None and "debian-archive-keyring" in caught.value.hint
    assert not (tmp_path / "made/tools.json").exists()


class _Mirror(BaseHTTPRequestHandler):
    """Passes requests on to the real mirror, and breaks off in the middle of large packages while told to."""

    upstream = ""
    cutting = True

    def do_GET(self) -> None:
        try:
            with urllib.request.urlopen(self.upstream + self.path, timeout=60) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            self.send_error(error.code)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = type(self).cutting and self.path.endswith(".deb") and len(body) > 500_000
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[DebianMirrors]:
    real = debian_mirrors()
    _Mirror.upstream, _Mirror.cutting = real.archive, True
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Mirror)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield DebianMirrors(f"http://127.0.0.1:{server.server_port}", None)
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_cut_download_is_an_error_and_the_next_run_recovers(tmp_path: Path, mirror: DebianMirrors) -> None:
    with pytest.raises(ToolchainError) as caught:
        make(tmp_path / "first", mirrors=mirror)
    assert "could not be downloaded" in caught.value.brief
    assert not (tmp_path / "first/tools.json").exists()
    _Mirror.cutting = False
    make(tmp_path / "second", mirrors=mirror)
    assert load_toolchain(tmp_path / "second").qemu.version


ON_A_SMALL_DISK = """
import asyncio, sys
from pathlib import Path
from engine.build.toolchain import ToolchainError, build_toolchain
from engine.build.toolchain import build
build.NEEDED_BYTES = int(sys.argv[2])
try:
    asyncio.run(build_toolchain(Path(sys.argv[1]), progress=print))
except ToolchainError as error:
    print("ERROR", error.brief, "|", error.hint)
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a small disk")
@pytest.mark.parametrize(("size", "needed"), [("50m", 700 << 20), ("50m", 0), ("170m", 0)])
def test_a_full_disk_is_called_that(tmp_path: Path, size: str, needed: int) -> None:
    """Found before the start, while downloading, and while unpacking."""
    small = tmp_path / "small"
    small.mkdir()
    script = f'mount -t tmpfs -o size={size} tmpfs "$1" && exec "$2" -c "$3" "$1/made" "$4"'
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(small), sys.executable]
    done = subprocess.run(
        [*argv, ON_A_SMALL_DISK, str(needed)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert "ERROR" in done.stdout, done.stdout + done.stderr
    error = done.stdout.split("ERROR", 1)[1]
    assert "space" in error or "full" in error
