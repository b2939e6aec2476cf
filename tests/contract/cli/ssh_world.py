"""OpenSSH's own client against a guest with OpenSSH's own server; `OpenSsh` is what a user types."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_world import DEADLINE_S

HERE = Path(__file__).parent
OPENSSH = Path(sys.prefix) / "openssh"
ALIAS = "shop.sandbox"


def unshare() -> list[str]:
    """A mount namespace of our own, in which we are who we were."""
    return ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"])


def missing() -> str | None:
    """Why there can be no such guest here."""
    if not shutil.which("ssh"):
        return "there is no OpenSSH client"
    if not OPENSSH.is_dir():
        return "scripts/openssh.sh could not fetch OpenSSH's server"
    if subprocess.run([*unshare(), "true"], capture_output=True).returncode != 0:
        return "this host allows no mount namespace"
    return None


@dataclass(frozen=True)
class OpenSsh:
    """`config` is what `sandbox ssh-config` has printed; `project` is the guest's working directory."""

    config: Path
    project: Path
    guest: int

    def argv(self, *words: str, program: str = "ssh") -> list[str]:
        return [program, "-F", str(self.config), *words]

    def __call__(self, *words: str, program: str = "ssh", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.argv(*words, program=program), input=stdin, capture_output=True, timeout=DEADLINE_S, cwd=self.project
        )

    def servers(self) -> list[str]:
        """The processes of sshd, and those that start one, in this guest: they share its mount namespace."""
        world, found = Path(f"/proc/{self.guest}/ns/mnt").readlink(), []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes()
                if b"sshd" in words and (path / "ns/mnt").readlink() == world:
                    found.append(words.replace(b"\0", b" ").decode())
        return found


@contextlib.contextmanager
def start_guest(name: str = "shop") -> Iterator[tuple[Path, int]]:
    """A sandbox with a guest that has sshd: its project, and the process of its supervisor."""
    with tempfile.TemporaryDirectory(prefix="sb-ssh-", dir="/tmp") as base:
        directory = Path(base)
        directory.chmod(0o755)  # the guest's user is another than ours, where we are root
        project = directory / "project"
        project.mkdir()
        os.chown(project, os.geteuid() or 4242, -1)
        argv = [*unshare(), sys.executable, str(HERE / "ssh_guest.py"), str(OPENSSH), base, name, str(project)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                yield project, process.pid
            finally:
                process.stdin.close()
                process.wait(DEADLINE_S)


def skip_if_missing() -> None:
    if why := missing():
        pytest.skip(why)
