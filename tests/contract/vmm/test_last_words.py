"""The standard error of children that live long: always read, never stored, and its end known when they have died."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmm import virtiofs
from vmm.errors import VmmError
from vmm.last_words import KEPT, LastWords
from vmm.machine import start_machine
from vmm.process import spawn
from vmm.spec import Drive, MachineSpec, Memory
from vmm.tools import Tool, Tools
from vmm.virtiofs import SharedDirectory, serve_directory

Runner = Callable[..., Any]
T = 20

FLOOD = """
import os, stat, sys
for number in range(400):
    os.write(2, b"guest error: " + b"x" * 65000 + b"\\n")
kind = "a pipe" if stat.S_ISFIFO(os.fstat(2).st_mode) else "another thing"
os.write(2, f"I wrote to {kind}, and this is the end\\n".encode())
sys.exit(3)
"""


def test_a_child_that_complains_without_end_never_waits_and_costs_nothing(run_clean: Runner) -> None:
    async def main() -> str:
        with LastWords() as words:
            async with spawn([sys.executable, "-c", FLOOD], stderr=words) as process:
                assert await asyncio.wait_for(process.wait(), T) == 3
                assert len(words._tail) <= KEPT
                return words.text(1000)

    said = run_clean(main())
    assert said.endswith("I wrote to a pipe, and this is the end") and len(said) <= 1000


def test_the_last_words_are_whole_however_soon_one_asks(run_clean: Runner) -> None:
    """A full pipe is left by a child that has ended, and the loop has not come to read it."""

    async def main() -> str:
        with LastWords(keep=1 << 20) as words:
            script = "import os; os.write(2, b'first' + b'x' * 65000 + b'last')"
            async with spawn([sys.executable, "-c", script], stderr=words) as process:
                asyncio.get_running_loop().remove_reader(words._reader)
                await process.wait()
                return words.text(1 << 20)

    said = run_clean(main())
    assert said.startswith("first") and said.endswith("last")


def test_several_children_in_turn(run_clean: Runner) -> None:
    async def main() -> str:
        with LastWords() as words:
            for text in ("one", "two"):
                script = f"import sys; print({text!r}, file=sys.stderr)"
                async with spawn([sys.executable, "-c", script], stderr=words) as process:
                    await process.wait()
            return words.text()

    assert run_clean(main()) == "one\ntwo"


def tools_of(script: str, tmp_path: Path) -> Tools:
    """Programs that all do the same."""
    tool = Tool("fake", (sys.executable, "-I", "-S", "-c", script), {}, "1", "system", Path(sys.executable))
    return Tools(tool, tool, tool, tool, tool, (), tmp_path, "6.1", tmp_path, tmp_path, "id")


def test_qemus_complaints_are_not_stored(run_clean: Runner, tmp_path: Path) -> None:
    spec = MachineSpec(
        "m", "tcg", 1, Memory(1 << 20), tmp_path, tmp_path, "", (Drive(tmp_path, "root", "raw", read_only=True),)
    )

    async def main() -> None:
        async with start_machine(spec, tools_of(FLOOD, tmp_path)):
            pass

    with pytest.raises(VmmError, match="QEMU did not start") as caught:
        run_clean(main())
    assert caught.value.details and caught.value.details.endswith("I wrote to a pipe, and this is the end")
    assert len(caught.value.details) <= 4000


def test_the_file_servers_complaints_are_not_stored(
    run_clean: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that writes without end and then ends without a word on the pipe that it reports to."""
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(virtiofs, "START", FLOOD)

    async def main() -> None:
        shared = SharedDirectory(tmp_path / "shared", "mount0")
        async with asyncio.timeout(T), serve_directory(shared, tmp_path / "mount0.sock"):
            pass

    with pytest.raises(VmmError, match="ended without a word") as caught:
        run_clean(main())
    assert caught.value.details and caught.value.details.endswith("I wrote to a pipe, and this is the end")


def test_a_python_that_could_not_begin_is_told_in_a_line(run_clean: Runner) -> None:
    said = "Traceback (most recent call last):\nFatal Python error: no path\nPython runtime state: core initialized\n"

    async def main() -> str:
        with LastWords() as words:
            async with spawn([sys.executable, "-c", f"import os; os.write(2, {said.encode()!r})"], stderr=words) as it:
                await it.wait()
            return words.text()

    assert run_clean(main()) == "Python could not begin: no path"
