"""The real file server in a process of its own, shut in as ever, under the user that a test wants."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fuse_client import FuseClient, FuseError

from vmm.fileserver import BEGUN, READY
from vmm.virtiofs import START

ROOT = Path(__file__).parents[3]
STRANGER = 12345  # an ordinary user that nobody is
DEADLINE_S = 30.0
WORDS_MOST = 30_000  # on standard error, whatever a test does


@dataclasses.dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[bytes]
    socket: Path
    holds: str
    errors: Any
    report: Any = None  # what it says of the room for the guest, a word a line

    def next_word(self) -> str:
        """What it reports next, but that QEMU has begun with the device."""
        while (word := self.report.readline().decode().rstrip("\n")) == BEGUN:
            pass
        return str(word)

    def words(self) -> str:
        return os.pread(self.errors.fileno(), 10 * WORDS_MOST, 0).decode(errors="replace")

    def wait_for_words(self, text: str) -> None:
        wait_until(lambda: text in self.words(), f"no {text!r} in {self.words()!r}")

    def status(self, name: str) -> str:
        """A line of /proc/PID/status."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:"))

    def descriptors(self) -> dict[int, str]:
        directory = Path(f"/proc/{self.process.pid}/fd")
        found = {}
        for link in directory.iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found[int(link.name)] = str(link.readlink())
        return found

    def ticks(self) -> int:
        """The processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def assert_idle(self) -> None:
        """It waits for something to do."""
        for _ in range(10):
            before = self.ticks()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.3)
            assert self.process.returncode is None, self.words()
            if self.ticks() - before <= 2:
                return
        raise AssertionError("it is busy with nothing")


def wait_until(good: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not good():
        assert time.monotonic() < deadline, what
        os.sched_yield()


@dataclasses.dataclass
class Place:
    """A directory to share, and one beside it that nobody may touch."""

    base: Path
    uid: int
    python: str = sys.executable
    code: Path = ROOT

    @property
    def gid(self) -> int:
        return os.getegid() if self.uid == os.geteuid() else self.uid

    @property
    def share(self) -> Path:
        return self.base / "share"

    @property
    def outside(self) -> Path:
        return self.base / "outside"

    def make(self) -> None:
        self.base.chmod(0o755)
        for directory in (self.share, self.outside, self.outside / "sub", self.base / "run"):
            directory.mkdir()
        self.write("outside/file", "outside\n")
        self.write("outside/sub/file", "outside, below\n")
        self.own()

    def write(self, name: str, text: str) -> Path:
        """As the user to whom all of it belongs."""
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.own()
        return path

    def own(self) -> None:
        """Everything belongs to the server's user."""
        if os.geteuid() == 0:
            for path in (self.base, *self.base.rglob("*")):
                if not path.is_relative_to(self.code) and path.lstat().st_uid != self.uid:
                    os.chown(path, self.uid, self.gid, follow_symlinks=False)

    @contextlib.contextmanager
    def serve(
        self,
        *,
        read_only: bool = False,
        protected: tuple[str, ...] = (),
        hidden: list[dict[str, Any]] | None = None,
        mount_points: tuple[str, ...] = (),
        file: str = "",
        limit: int | None = None,
        changes: socket.socket | None = None,
        unconfined: bool = False,
        descriptors: int | None = None,
        start: str = START,
        as_root: bool = False,
    ) -> Iterator[Served]:
        """Under our user, or `uid`. `as_root`: started by root for the directory of `uid`."""
        path = self.base / "run" / "s.sock"
        room = self.base / "run" / "s"
        room.mkdir(exist_ok=True)
        self.own()
        other = os.geteuid() == 0 and self.uid != 0 and not as_root
        user: dict[str, Any] = {"user": self.uid, "group": self.gid, "extra_groups": []} if other else {}
        if as_root:
            user["extra_groups"] = [STRANGER + 1]  # of which the server may keep none
        reader, writer = os.pipe()
        with (
            tempfile.TemporaryFile() as errors,
            socket.socket(socket.AF_UNIX) as listener,
            os.fdopen(reader, "rb") as report,
        ):
            listener.bind(str(path))
            listener.listen(1)
            told = {
                "source": str(self.share),
                "place": str(room),
                "uid": self.uid,
                "gid": self.gid,
                "read_only": read_only,
                "protected": protected,
                "hidden": hidden or [],
                "mount_points": mount_points,
                "file": file,
                "limit": limit,
                "changes": changes.fileno() if changes is not None else -1,
                "unconfined": unconfined,
                "listener": listener.fileno(),
                "report": writer,
            }
            command = [self.python, "-I", "-S", "-c", start, str(self.code), json.dumps(told)]
            if descriptors is not None:
                command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[listener.fileno(), writer, *([changes.fileno()] if changes is not None else [])],
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                **user,
            )
            try:
                os.close(writer)
                listener.close()
                word, _, holds = report.readline().decode().rstrip("\n").partition(" ")
                served = Served(process, path, holds, errors, report)
                if word != READY:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(DEADLINE_S)
                    raise Refused(f"{word} {holds}".strip(), served.words())
                yield served
                assert len(served.words()) < WORDS_MOST, "it is talkative"
            finally:
                process.kill()
                process.wait()
                path.unlink()
                with contextlib.suppress(OSError):
                    room.rmdir()

    @contextlib.contextmanager
    def client(self, **options: Any) -> Iterator[tuple[Served, FuseClient]]:
        """A server and its guest, which has said INIT."""
        with self.serve(**options) as served, FuseClient(served.socket) as client:
            client.init()
            yield served, client

    @contextlib.contextmanager
    def untouched(self) -> Iterator[None]:
        """What lies outside of the share is the same before and after."""
        without = (self.share, self.base / "run", self.code)
        before = picture(self.base, without)
        yield
        assert picture(self.base, without) == before


class Refused(Exception):
    """The server did not start: its text is what it reported."""

    def __init__(self, report: str, words: str) -> None:
        super().__init__(report)
        self.words = words

    def __str__(self) -> str:
        return str(self.args[0])


def picture(directory: Path, without: tuple[Path, ...] = ()) -> dict[str, tuple[Any, ...]]:
    """Everything that somebody could have changed below a directory."""
    found = {}
    for above, directories, files in os.walk(directory):
        here = Path(above)
        directories[:] = [name for name in directories if here / name not in without]
        for path in (here, *(here / name for name in (*directories, *files))):
            st = path.lstat()
            kind = stat.S_IFMT(st.st_mode)
            content = path.read_bytes() if kind == stat.S_IFREG else str(path.readlink()) if path.is_symlink() else b""
            times = (st.st_mtime_ns, st.st_ctime_ns) if path != directory else ()
            found[str(path)] = (content, st.st_mode, st.st_uid, st.st_ino, st.st_nlink if content else 0, *times)
    return found


def error_of(work: Callable[..., object], *arguments: object, **options: object) -> str:
    """The name of the errno with which the server refuses; "" when it does not."""
    try:
        work(*arguments, **options)
    except FuseError as error:
        return error.name
    return ""


def why_no_stranger(place: Place) -> str | None:
    """None when another user can run our code; else why not. Chooses the interpreter."""
    for python in (sys.executable, "/usr/bin/python3"):
        check = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            done = subprocess.run(
                [python, "-I", "-S", "-c", check], user=place.uid, group=place.uid, extra_groups=[], capture_output=True
            )
        except OSError:
            continue
        if done.returncode == 0:
            place.python = python
            return None
    return f"user {place.uid} has no Python 3.11 that it can run"


def copy_code(target: Path) -> None:
    """The server's own modules, where any user can read them."""
    package = target / "vmm"
    shutil.copytree(ROOT / "vmm" / "fileserver", package / "fileserver", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "confine.py", "system_calls.py"):
        shutil.copy(ROOT / "vmm" / name, package / name)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
