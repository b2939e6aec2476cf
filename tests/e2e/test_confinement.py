"""Every process of the running quickstart, as the kernel sees it, against the table of what it may do."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_quickstart import EXAMPLE
from world import World

from engine.lifecycle.confinement import DISKS, PROCESSES, SHARE, Held
from engine.resolve.host_ports import pick_port
from vmm.system_calls import ARCHITECTURES

NOTHING = "0000000000000000"
KINDS = ("net", "mnt", "ipc", "uts", "pid", "cgroup")
CACHE = Path(os.environ.get("SANDBOX_CACHE_DIR", Path.home() / ".cache" / "sandbox"))


class Seen:
    """One process. What only root, or nobody, may look at is None."""

    def __init__(self, pid: int) -> None:
        self.place = Path(f"/proc/{pid}")
        text = (self.place / "status").read_text()
        self.status = {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
        self.command = (self.place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        limits = (self.place / "limits").read_text()
        self.core = re.findall(r"^Max core file size +(\S+) +(\S+)", limits, re.MULTILINE)[0]

    def namespaces(self) -> dict[str, str] | None:
        try:
            return {kind: str((self.place / "ns" / kind).readlink()) for kind in (*KINDS, "user")}
        except PermissionError:
            return None

    def descriptors(self) -> list[str] | None:
        try:
            return [str(entry.readlink()) for entry in (self.place / "fd").iterdir()]
        except PermissionError:
            return None

    def code(self) -> set[str]:
        """The files whose code it runs."""
        lines = (line.split(maxsplit=5) for line in (self.place / "maps").read_text().splitlines())
        return {line[5] for line in lines if "x" in line[1] and len(line) > 5 and line[5].startswith("/")}


def family(pid: int) -> Iterator[int]:
    """It and all processes that it has started, of which any is alive."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int(re.findall(r"^PPid:\s+(\d+)", (entry / "status").read_text(), re.M)[0])
        except (OSError, IndexError):
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    yield from sorted(found)


@pytest.fixture
def running(world: World) -> tuple[World, Path, list[Seen]]:
    """A quickstart that runs, and all of its processes."""
    project = world.base / "quickstart"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("RESULT.md"))
    file = project / "Sandboxfile.yaml"
    file.write_text(file.read_text().replace("8080:8080", f"{pick_port()}:8080"))
    world.up(project)
    (sandbox,) = world.listed(project)
    return world, project, [Seen(pid) for pid in family(sandbox["pid"])]


def kind_of(seen: Seen) -> Held | None:
    return next((held for held in PROCESSES if all(mark in seen.command for mark in held.marks)), None)


def complaints(seen: Seen, held: Held, ours: Seen, allowed: tuple[str, ...]) -> Iterator[str]:
    """What the kernel says otherwise than the table."""
    if seen.core not in (("1", "1"), ("0", "0")) and held.name != PROCESSES[-1].name:
        yield f"core dumps of {seen.core}"
    if held.confined:
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"):
            if seen.status[name] != NOTHING and not (name == "CapBnd" and held.name == "passt"):
                yield f"{name} {seen.status[name]}"
        if seen.status["NoNewPrivs"] != "1":
            yield "it could get privileges by a program"
        if seen.status["Seccomp"] != "2" and platform.machine() in ARCHITECTURES:
            yield "no filter of system calls"
        if held.name == "QEMU" and int(seen.status["Seccomp_filters"]) < 2:
            yield "one of the two filters is missing"
    theirs, own = seen.namespaces(), ours.namespaces()
    assert own is not None
    if theirs is not None:
        expected = held.namespaces | ({"user"} if held.namespaces and os.geteuid() != 0 else set())
        different = {kind for kind in theirs if theirs[kind] != own[kind]}
        if missing := expected - different:
            yield f"it shares {sorted(missing)}"
    if held.descriptors is not None and (opened := seen.descriptors()) is not None:
        yield from (f"open: {target}" for target in opened if not f"{target}\n".startswith(allowed))
    if held.root and [line.split()[4] for line in (seen.place / "mountinfo").read_text().splitlines()] != ["/"]:
        yield "its root is not the only mount that it sees"


def test_each_process_is_held_as_the_table_says(running: tuple[World, Path, list[Seen]]) -> None:
    _, project, processes = running
    kinds = {seen: kind_of(seen) for seen in processes}
    assert [seen.command for seen, held in kinds.items() if held is None] == []
    running = {held.name for held in PROCESSES if not held.name.startswith("waker")}
    assert {held.name for held in kinds.values() if held} == running
    words = {
        DISKS: (str(CACHE), os.environ["SANDBOX_STATE_DIR"] + "/instances/quickstart/disk.qcow2"),
        SHARE: ("/\n", str(project / "workspace")),  # its root, seen from here
    }
    ours = Seen(os.getpid())
    said = {}
    for seen, held in kinds.items():
        assert held is not None
        allowed = tuple(text for name in held.descriptors or () for text in words.get(name, (name,)))
        if wrong := list(complaints(seen, held, ours, allowed)):
            said[held.name] = wrong
    assert said == {}
    (qemu,) = (seen for seen in processes if "qemu-system" in seen.command)
    # It runs the code of its toolchain and no other, and writes to its disk alone.
    assert qemu.code() and {path for path in qemu.code() if not path.startswith((str(CACHE), "/usr", "/lib"))} == set()
    writable = [target for target in qemu.descriptors() or () if target.startswith("/") and is_writable(qemu, target)]
    state = os.environ["SANDBOX_STATE_DIR"]
    assert {target for target in writable if not target.startswith(("/dev/null", "/memfd:"))} == {
        f"{state}/instances/quickstart/disk.qcow2"
    }


def is_writable(seen: Seen, target: str) -> bool:
    for entry in (seen.place / "fd").iterdir():
        if str(entry.readlink()) == target:
            flags = re.findall(r"flags:\s+(\d+)", (seen.place / "fdinfo" / entry.name).read_text())[0]
            if int(flags, 8) & (os.O_WRONLY | os.O_RDWR):
                return True
    return False
