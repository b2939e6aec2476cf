"""The jail of a program that does one thing to files, and what holds on hosts that lack a part of it."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmm.confine import landlock_version
from vmm.errors import VmmError
from vmm.jail import Jail, backing_files, has_filter, tool_jail
from vmm.process import LEASH, ProcessError, run
from vmm.system_calls import ARCHITECTURES
from vmm.tools import Tool

T = 60.0
PYTHON = Path(sys.executable).resolve()
ROOT = Path(__file__).parents[3]
TOOL = Tool("tool", (str(PYTHON), "-I", "-S"), {}, "1", "system", PYTHON)
# What came of each attempt, in its own order: nothing can be tried after a program that was started.
PROBE = """
import ctypes, errno, json, os, socket, sys
outside, own = sys.argv[1:]
def program():
    os.execv("/bin/true", ["true"])
def signal():
    thread = 131 if os.uname().machine == "aarch64" else 234  # tgkill
    if ctypes.CDLL(None, use_errno=True).syscall(thread, os.getppid(), os.getppid(), 0) < 0:
        raise OSError(ctypes.get_errno(), "refused")
def process():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
def own_write():
    with open(own, "w") as file:
        file.write("written")
tries = {
    "read": lambda: open(outside).close(),
    "write": lambda: open(outside, "a").close(),
    "make": lambda: open(own + ".new", "w").close(),
    "processes": lambda: os.listdir("/proc"),
    "socket": lambda: socket.socket().close(),
    "connect": lambda: socket.create_connection(("127.0.0.1", 9)).close(),
    "signal": signal,
    "process": process,
    "program": program,
    "own": own_write,
}
results = {}
for name, attempt in tries.items():
    try:
        attempt()
        results[name] = ""
    except OSError as error:
        results[name] = errno.errorcode[error.errno]
print(json.dumps(results))
"""
# Stands before the leash's own text, and takes a part of the jail from this host.
WITHOUT = {
    "Landlock": "from vmm import confine; confine.landlock_version = lambda: 0",
    "the filter": "from vmm import system_calls; system_calls.refuse_to_program = lambda **_: None",
    "the question": "from vmm import system_calls as s; i = s.install; s.install = lambda steps, flags=0: "
    "(_ for _ in ()).throw(OSError(22, 'no')) if flags else i(steps)",
}
needs_filter = pytest.mark.skipif(platform.machine() not in ARCHITECTURES, reason="no filter for this processor")
needs_landlock = pytest.mark.skipif(landlock_version() < 3, reason="this kernel has no Landlock, or an early one")


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A file that is none of its business, and its own."""
    outside, own = tmp_path / "outside", tmp_path / "own"
    for path in (outside, own):
        path.write_text("as before")
    return outside, own


def leashed(jail: Jail, *command: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """The command as the leash starts it, where `before` was run ahead of the leash."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {before}\nimport runpy; sys.argv[0] = {str(LEASH)!r}\n"
    script += "runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [sys.executable, "-I", "-S", "-c", script, str(os.getpid()), jail.words(), *command]
    return subprocess.run(words, capture_output=True, text=True, timeout=T)


def probed(places: tuple[Path, Path], before: str = "") -> dict[str, str]:
    outside, own = places
    jail = tool_jail(TOOL, write=(own,))
    done = leashed(jail, *TOOL.command("-c", PROBE, str(outside), str(own)), before=before)
    assert done.returncode == 0, done.stderr
    assert outside.read_text() == "as before" and own.read_text() == "written"
    return dict(json.loads(done.stdout))


@needs_filter
@needs_landlock
def test_a_tool_has_its_file_and_nothing_else(places: tuple[Path, Path], run_clean: Callable[..., Any]) -> None:
    outside, own = places

    async def main() -> str:
        command = TOOL.command("-c", PROBE, str(outside), str(own))
        return (await run(command, timeout_s=T, jail=tool_jail(TOOL, write=(own,)))).stdout.decode()

    results = json.loads(run_clean(main()))
    assert results.pop("own") == "" and own.read_text() == "written" and outside.read_text() == "as before"
    assert {name: error for name, error in results.items() if not error} == {}


@needs_filter
@needs_landlock
def test_a_directory_that_it_may_fill(tmp_path: Path) -> None:
    (tmp_path / "beside").write_text("")
    (tmp_path / "fill").mkdir()
    script = "import os, sys; os.chdir(sys.argv[1]); open('a', 'w').close(); os.unlink('a'); open('b', 'w').close()\n"
    script += "try: os.mkdir('c')\nexcept OSError as e: print(e.errno)\n"
    script += "try: open('../beside')\nexcept OSError as e: print(e.errno)"
    jail = tool_jail(TOOL, fill=(tmp_path / "fill",))
    done = leashed(jail, *TOOL.command("-c", script, str(tmp_path / "fill")))
    assert (done.stdout, done.stderr) == ("13\n13\n", "")
    assert [path.name for path in (tmp_path / "fill").iterdir()] == ["b"]


@needs_filter
@needs_landlock
@pytest.mark.parametrize("part", WITHOUT)
def test_a_host_without_a_part_has_the_others(places: tuple[Path, Path], part: str) -> None:
    results = probed(places, WITHOUT[part])
    refused = {name for name, error in results.items() if error}
    of_files, of_calls, of_both = {"read", "write", "make", "processes"}, {"socket", "process"}, {"connect", "program"}
    of_both |= {"signal"} if landlock_version() >= 6 or part != "the filter" else set()
    expected = {"Landlock": of_calls | of_both, "the filter": of_files | of_both}
    assert refused == expected.get(part, of_files | of_calls | of_both), results
    if landlock_version() >= 4 or part != "the filter":
        assert results["connect"] == ("EACCES" if part == "the filter" else "EPERM")
    # With nobody to answer there is no such call any more; else Landlock refuses the file.
    assert results["program"] == ("ENOSYS" if part == "Landlock" else "EACCES")


@pytest.mark.parametrize("words", ["nonsense /x", "network "])
def test_what_cannot_be_shut_in_does_not_start(words: str, tmp_path: Path) -> None:
    refuse = "from vmm import confine\ndef no(spaces): raise PermissionError(1, 'Operation not permitted')\n"
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {refuse}confine.unshare = no\n"
    script += f"import runpy; sys.argv[0] = {str(LEASH)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-c", script, str(os.getpid()), words, "touch", str(tmp_path / "ran")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=T)
    assert done.returncode == 126 and "cannot shut in touch" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_root_of_somebodys_user_namespace_is_shut_in(places: tuple[Path, Path]) -> None:
    """Who cannot even give up his groups there."""
    if subprocess.run(["unshare", "-Ur", "true"], capture_output=True).returncode:
        pytest.skip("this host forbids user namespaces to this user")
    outside, own = places
    leash = [sys.executable, "-I", "-S", str(LEASH)]
    command = TOOL.command("-c", PROBE, str(outside), str(own))
    script = 'exec "$1" "$2" "$3" "$4" $$ "$5" "${@:6}" & wait $!'
    words = ["unshare", "-Ur", "bash", "-c", script, "bash", *leash, tool_jail(TOOL, write=(own,)).words(), *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=T)
    assert done.returncode == 0 and json.loads(done.stdout)["own"] == "", done.stderr


def test_a_program_that_is_missing_says_so(run_clean: Callable[..., Any]) -> None:
    async def main() -> None:
        await run(["/no/such/program"], timeout_s=T, jail=tool_jail(TOOL))

    with pytest.raises(ProcessError, match="failed with code 127"):
        run_clean(main())


def test_a_path_of_two_lines_is_refused() -> None:
    with pytest.raises(VmmError, match="line break"):
        Jail(read=(Path("/a\nwrite /b"),)).words()


def qcow2(path: Path, backing: str, magic: bytes = b"QFI\xfb", form: bytes = b"") -> Path:
    """The head of such a file."""
    name = backing.encode()
    head = struct.pack(">4sIQI", magic, 3, 512 if name else 0, len(name)).ljust(100, b"\0") + struct.pack(">I", 104)
    kind = struct.pack(">II", 0xE2792ACA, len(form)) + form.ljust(8, b"\0") if form else b""
    path.write_bytes((head + kind).ljust(512, b"\0") + name)
    return path


def test_the_files_below_a_disk(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    base = tmp_path / "base.raw"
    base.write_bytes(bytes(512))
    below = qcow2(tmp_path / "a/below.qcow2", "../base.raw")
    disk = qcow2(tmp_path / "disk.qcow2", str(below))
    assert [path.resolve() for path in backing_files(disk)] == [below, base]
    assert backing_files(below)[0].resolve() == base
    assert backing_files(base) == backing_files(tmp_path / "missing") == ()
    assert backing_files(qcow2(tmp_path / "other", "x", b"none")) == ()


def test_below_what_is_said_to_be_raw_is_nothing(tmp_path: Path) -> None:
    """It may be written by somebody else, and begin like a qcow2 upon a file of this host."""
    lower = qcow2(tmp_path / "disk.raw", "/etc/shadow")
    disk = qcow2(tmp_path / "disk.qcow2", "disk.raw", form=b"raw")
    assert backing_files(disk) == (lower,)
    above = qcow2(tmp_path / "above.qcow2", "disk.qcow2", form=b"qcow2")
    assert backing_files(above) == (disk, lower)


def test_a_circle_of_disks_has_an_end(tmp_path: Path) -> None:
    assert len(backing_files(qcow2(tmp_path / "disk", "disk"))) < 100


def test_a_program_of_the_system_may_be_loaded_and_its_prefix_read() -> None:
    jail = tool_jail(TOOL)
    assert jail.run[0] == PYTHON and Path("/usr") in jail.read and PYTHON.parent.parent / "lib" in jail.read
    loaders = [path.name for path in jail.run[1:]]
    assert loaders and all(name.startswith(("ld-", "ld.")) for name in loaders)
    home = Tool("t", ("/home/me/bin/t",), {}, "1", "system", Path("/home/me/bin/t"))
    assert Path("/home/me") not in tool_jail(home).read and Path("/") not in tool_jail(home).read


def test_only_a_qemu_with_a_filter_is_asked_for_it(tmp_path: Path) -> None:
    for name, content, expected in (("with", b"\0libseccomp.so.2\0", True), ("without", b"\0libc.so.6\0", False)):
        (tmp_path / name).write_bytes(content)
        tool = Tool("qemu", (str(tmp_path / name),), {}, "10", "system", tmp_path / name)
        assert has_filter(tool) is (expected and sys.platform == "linux")
    gone = tmp_path / "gone"
    assert has_filter(Tool("qemu", (str(gone),), {}, "10", "system", gone)) is False
    assert has_filter(Tool("qemu", (str(gone),), {}, "10", "private", gone)) is (sys.platform == "linux")


def test_the_loop_is_not_held_up(run_clean: Callable[..., Any]) -> None:
    """Several at once, each with its own jail."""

    async def main() -> list[bytes]:
        command = TOOL.command("-c", "print(1)")
        finished = await asyncio.gather(*(run(command, timeout_s=T, jail=tool_jail(TOOL)) for _ in range(4)))
        return [done.stdout for done in finished]

    assert run_clean(main()) == [b"1\n"] * 4
