"""Directories of one's own for many commands in a row, and a look at what each has left (chaos.py, bench/soak.py)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 150.0  # nothing takes that long, also where something stood still for 45 s
BUSY = 2.0  # processes that want to run for each processor: then deadlines pass that else nobody sees
TOO_LATE = re.compile(r"^error: .*\bwithin \d+ s", re.MULTILINE)
BUILD_S = 1800.0
TRIES = 4  # of a build or a start on a busy host
GONE_S = 30.0
LOOK_S = 40.0
# In the guest: who waits for what, who has been interrupted how often, and what the kernel has said.
LOOK = """\
for p in /proc/[0-9]*; do
    s=$(cut -d' ' -f2,3 $p/stat 2>/dev/null) || continue
    case "$s" in *kworker*|*irq/*) continue;; esac
    echo "${p#/proc/} $s $(tr '\\n' ' ' <$p/stack 2>/dev/null)"
done
grep -e virtio -e LOC /proc/interrupts
grep -e '^now' -e '^cpu' -e expires_next /proc/timer_list
dmesg | tail -n 30
"""
UP = ("up", "-d", "--yes", "--progress", "plain")
ROUSED = "had lost its timer"
# What Python says that could not begin, before any line of ours has run (3.11: Modules/main.c, Python/pylifecycle.c).
UNBEGUN = re.compile(r"^(Could not import runpy module|Fatal Python error: )", re.MULTILINE)
FRAME = re.compile(r'^ *File "(.*)", line ', re.MULTILINE)
PYTHON = ("<frozen ", f"{sysconfig.get_path('stdlib')}/", f"{sys.prefix}/")
TOLD = re.compile(r"^(error|sandbox|warning|Sandboxfile\.yaml|[\w-]+ failed): ", re.MULTILINE)


def load() -> float:
    """How many processes want to run for each processor, over the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


class Wrong(Exception):
    """A promise was not kept."""


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int | None  # None: it did not end
    out: str
    err: str

    def __str__(self) -> str:
        return f"code {self.code}\n--- stdout\n{self.out[-1500:]}\n--- stderr\n{self.err[-3000:]}"


def processes(marks: Sequence[str], besides: Collection[int] = ()) -> dict[int, str]:
    """Every live process with one of these texts in its environment or arguments, but for this one: its arguments."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (directory / "cmdline").read_bytes()
            known = command + (directory / "environ").read_bytes()
            pid = int(directory.name)
            if command and pid not in {os.getpid(), *besides} and any(mark.encode() in known for mark in marks):
                found[pid] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def held_by(pid: int) -> str:
    """What a process has of the host: memory, threads, descriptors, and what it waits for. "" where it is gone."""
    place = Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
        descriptors = sum(1 for _ in (place / "fd").iterdir())
        waits = (place / "wchan").read_text()
    except OSError:
        return ""
    facts = [status[key].strip() for key in ("State", "VmRSS") if key in status]
    return f"{', '.join(facts)}, {status['Threads'].strip()} threads, {descriptors} descriptors, in {waits}"


@dataclass(frozen=True)
class Size:
    """What is below a directory: bytes on the disk, and files."""

    size: int = 0
    files: int = 0

    @classmethod
    def of(cls, directory: Path) -> Size:
        size, files = 0, 0
        for path in directory.rglob("*"):
            with contextlib.suppress(OSError):
                size, files = size + path.lstat().st_blocks * 512, files + (not path.is_dir())
        return cls(size, files)

    def __sub__(self, other: Size) -> Size:
        return Size(self.size - other.size, self.files - other.files)

    def __str__(self) -> str:
        return f"{self.size:+} bytes and {self.files:+} files"


def has_not_begun(ran: Ran) -> bool:
    """Whether this is Python that could not begin, and said so itself: no frame that it shows is ours."""
    frames = FRAME.findall(ran.err)
    begun = [file for file in frames if not file.startswith(PYTHON)]
    return bool(ran.code and ran.code > 0 and UNBEGUN.search(ran.err) and not begun)


class Place:
    """The project `base`/project, and a state, a runtime, a temporary and a configuration directory beside it."""

    def __init__(self, base: Path, cache: str) -> None:
        self.base, self.cache = base, Path(cache)
        self.project = base / "project"
        self.state, self.runtime, self.temporary = base / "state", base / "run", base / "tmp"
        for directory in (self.project, self.state, self.runtime, self.temporary, base / "config"):
            directory.mkdir(parents=True, mode=0o700)
        self.environment = {
            **os.environ,
            "SANDBOX_STATE_DIR": str(self.state),
            "SANDBOX_RUNTIME_DIR": str(self.runtime),
            "SANDBOX_CONFIG_DIR": str(base / "config"),
            "SANDBOX_CACHE_DIR": cache,
            "SANDBOX_CACHE_SIZE": "none",
            "TMPDIR": str(self.temporary),
            "PYTHONPYCACHEPREFIX": str(base / "bytecode"),  # as users have it: modules are compiled once
        }
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.marks = (str(self.state), str(self.runtime))
        self.roused: list[str] = []  # what supervisors said of timers that a machine had lost (vmm/channel/rousing.py)
        self.too_late = 0  # starts on a busy host whose machine did not answer in time, and that were tried again

    # commands

    def start(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        with (self.base / "out").open("w") as out, (self.base / "err").open("w") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "engine.cli.main", *argv],
                cwd=self.project,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self.environment,
                text=True,
            )

    def finish(self, process: subprocess.Popen[str], patience_s: float = PATIENCE_S) -> Ran:
        """Raises Wrong, with what all processes wait for, where it does not end. On a busy host it waits longer."""
        patience_s *= max(1.0, load() / BUSY)
        try:
            code: int | None = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            waiting, inside = self.living(), self._look_inside()
            process.kill()
            process.wait()
            said = f"{self._said(None)}\n--- lived\n{waiting}\n--- in the guest\n{inside}"
            raise Wrong(f"it did not end in {patience_s:.0f} s: {said}") from None
        return self._said(code)

    def _look_inside(self) -> str:
        """What the guest's processes wait for, where it answers, and the end of its console."""
        argv = [sys.executable, "-m", "engine.cli.main", "exec", "-u", "root", "-w", "/", "--", "sh", "-c", LOOK]
        look = subprocess.Popen(
            argv, cwd=self.project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment, text=True
        )
        try:
            found, _ = look.communicate(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            look.kill()
            found = f"no answer within {LOOK_S:.0f} s: {look.communicate()[0]}"
        consoles = [path.read_text(errors="replace")[-3000:] for path in self.state.glob("instances/*/console.log")]
        return "\n".join([found, *consoles])

    def _said(self, code: int | None) -> Ran:
        return Ran(code, (self.base / "out").read_text(), (self.base / "err").read_text())

    def must(self, *argv: str, patience_s: float = PATIENCE_S) -> Ran:
        """Raises Wrong where it fails."""
        ran = self.finish(self.start(argv), patience_s)
        if ran.code != 0:
            raise Wrong(f"`{' '.join(argv)}` failed: {ran}")
        return ran

    def up(self, *options: str) -> Ran:
        """Raises Wrong where it fails. On a busy host a start that came too late is counted, and tried again."""
        ran = self._try(UP, *options)
        if ran.code != 0:
            raise Wrong(f"`{' '.join((*UP, *options))}` failed: {ran}")
        return ran

    def _try(self, argv: Sequence[str], *options: str, patience_s: float = PATIENCE_S) -> Ran:
        for _ in range(TRIES):
            ran = self.finish(self.start((*argv, *options)), patience_s)
            if ran.code == 0 or not TOO_LATE.search(ran.err) or load() < BUSY:
                break
            self.too_late += 1
        return ran

    def build(self) -> None:
        """All that the project needs, so that each `up` after that is a warm one. Raises Wrong."""
        built = self._try(("build", "--yes"), patience_s=BUILD_S)
        if built.code != 0:
            raise Wrong(f"`build` failed: {built}")
        for _ in range(2):  # the second one knows of the first
            self.up()
            self.must("down")

    def judge(self, ran: Ran, *, killed: bool) -> bool:
        """Whether a command to which something has happened failed, and said why in a line; raises Wrong where it said
        nothing, or showed a traceback. One that was `killed` need not say anything."""
        if has_not_begun(ran) and "Traceback" not in self.logs():
            return True
        if "Traceback" in ran.out + ran.err + self.logs():
            raise Wrong(f"a traceback: {ran}\n{self.logs()[-3000:]}")
        if ran.code and ran.code > 0 and not TOLD.search(ran.err):
            raise Wrong(f"it failed and did not say why: {ran}")
        if ran.code and ran.code < 0 and not killed:
            raise Wrong(f"it was ended: {ran}")
        return bool(ran.code and ran.code > 0)

    def come_back(self, file: str, content: str) -> None:
        """What is there now can be listed, and the next `up` works, if need be with what it advises: in the guest,
        `file` has this content. Raises Wrong."""
        self.must("ls", "--json")
        ran = self.up()
        if "--recreate" in ran.out + ran.err:
            self.up("--recreate")
        self.await_runs()
        read = self.must("exec", "--", "cat", file)
        if read.out != content:
            raise Wrong(f"the project is not what it was: {read}")
        if "Traceback" in self.logs():
            raise Wrong(f"a traceback in the log: {self.logs()[-3000:]}")
        for log in self.state.glob("instances/*/supervisor.log"):
            self.roused += [line for line in log.read_text(errors="replace").splitlines() if ROUSED in line]

    def await_runs(self) -> None:
        """The sandbox of a `run` that was killed ends soon, by itself. Raises Wrong where it does not."""
        deadline = time.monotonic() + GONE_S
        while runs := [path.name for path in self.state.glob("instances/*-run-*")]:
            if time.monotonic() > deadline:
                raise Wrong(f"there is still {', '.join(runs)}")
            time.sleep(0.05)

    def leave(self) -> None:
        """Take it down. Raises Wrong where anything is left after a while."""
        self.must("down")
        deadline = time.monotonic() + GONE_S
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            raise Wrong(f"left: {left}")

    # what there is

    def living(self) -> str:
        """A line for each process."""
        found = processes(self.marks)
        return "\n".join(f"process {pid}: {command} ({held_by(pid)})" for pid, command in found.items())

    def left(self) -> list[str]:
        """Processes, sockets, records and files of nobody."""
        found = self.living().splitlines()
        found += [str(path) for path in self.runtime.iterdir() if path.name != "README"]
        found += [str(path) for path in (self.state / "instances").glob("*")]
        return found + [str(path) for path in self.temporary.iterdir()]

    def picture(self) -> dict[str, str]:
        """The project's files, and how many mounts this namespace has below `base`."""
        files = {
            str(path.relative_to(self.project)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.project.rglob("*")
            if path.is_file()
        }
        mounts = Path("/proc/self/mountinfo").read_text()
        return {**files, "mounts": str(mounts.count(str(self.base)))}

    def compare(self, before: dict[str, str]) -> None:
        """Raises Wrong where the picture is not what it was."""
        if (after := self.picture()) != before:
            raise Wrong(f"not as before: {sorted(before.items() ^ after.items())}")

    def logs(self) -> str:
        found = ""
        for path in (*self.state.glob("instances/*/supervisor.log"), *self.state.glob("failed/*/supervisor.log")):
            with contextlib.suppress(OSError):
                found += path.read_text(errors="replace")
        return found

    def evidence(self) -> str:
        left = "\n".join(self.left())
        records = [path.read_text() for path in self.state.glob("instances/*/instance.json")]
        consoles = [path.read_text(errors="replace")[-1500:] for path in self.state.glob("failed/*/console*")]
        return f"--- left\n{left}\n--- log\n{self.logs()[-2000:]}\n--- record\n{records}\n--- consoles\n{consoles}"

    def clear(self) -> None:
        """End and remove all that there is, but the project."""
        with contextlib.suppress(Wrong):
            self.finish(self.start(["down", "--all", "--yes"]))
        for pid in processes(self.marks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        for directory in (self.state / "instances", self.state / "failed", self.temporary):
            shutil.rmtree(directory, ignore_errors=True)
        self.temporary.mkdir(exist_ok=True)


@contextlib.contextmanager
def place(name: str) -> Iterator[Path]:
    """A directory of a short path, which is gone after the block."""
    base = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/tmp"))
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


def end_in_order() -> None:
    """TERM and INT are KeyboardInterrupt from now on, also in the background of a shell that has them ignored."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def user_cache() -> str:
    return os.environ.get("SANDBOX_CACHE_DIR") or str(Path.home() / ".cache/sandbox")


def commit() -> str:
    """Of this tree; with `+` where it has changes that are in no commit."""
    git = ["git", "-C", str(Path(__file__).parent)]
    named = subprocess.run([*git, "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return named.stdout.strip() or "unknown"
