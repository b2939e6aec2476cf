"""A command sees a directory in which the kernel refuses to change what is masked. No machine is needed for that."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from vmm.errors import VmmError
from vmm.masking import SCRIPT, Mask, MaskError, spawn_masked, why_unmasked

Runner = Callable[[Coroutine[Any, Any, Any]], Any]
DEADLINE_S = 20.0
LOOP = 'cd "$0"; while read line; do eval "$line" 2>&1; echo "= $?"; done'
REFUSED = asyncio.run(why_unmasked()) if sys.platform == "linux" else "not Linux"
pytestmark = pytest.mark.skipif(REFUSED is not None, reason=str(REFUSED))


class Shell:
    """A shell in the masked directory."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def run(self, line: str) -> tuple[int, str]:
        """Exit code and output."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line.encode() + b"\n")
        output = ""
        while True:
            text = (await asyncio.wait_for(self.process.stdout.readline(), DEADLINE_S)).decode()
            assert text, "the shell has ended"
            if text.startswith("= "):
                return int(text[2:]), output
            output += text

    async def refused(self, line: str, reason: str) -> None:
        code, output = await self.run(line)
        assert code != 0 and reason in output, (line, output)

    async def until(self, line: str, good: Callable[[int], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not good((await self.run(line))[0]):
                pass


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path.resolve() / "project"
    (directory / "sub" / "deep").mkdir(parents=True)
    (directory / "file").write_text("kept\n")
    (directory / "sub" / "deep" / "file").write_text("kept below\n")
    return directory


@asynccontextmanager
async def shell(project: Path, *paths: str) -> AsyncIterator[Shell]:
    place = project.with_name("place")
    place.mkdir(exist_ok=True)
    pipe = asyncio.subprocess.PIPE
    command = ["sh", "-c", LOOP, str(place)]
    masks = [Mask(path) for path in paths]
    async with spawn_masked(command, project, place, masks, stdin=pipe, stdout=pipe) as process:
        yield Shell(process)
        assert list(place.iterdir()) == [], "the host sees our mounts"


ATTEMPTS = {
    "echo x > file": "Read-only",
    "echo x >> file": "Read-only",
    "truncate -s 0 file": "Read-only",
    "rm -f file": "busy",
    "mv file away": "busy",
    "echo y > other; mv -f other file": "busy",
    "ln -sf /etc/hostname file": "busy",
    "ln file hard": "cross-device",
    "chmod 777 file": "Read-only",
    "touch file": "Read-only",
    "mkdir file": "exists",
}


def test_what_is_masked_stays_as_it_is(project: Path, run_clean: Runner) -> None:
    async def main() -> None:
        before = (project / "file").stat()
        async with shell(project, "file") as inside:
            for line, reason in ATTEMPTS.items():
                await inside.refused(line, reason)
            assert await inside.run("cat file") == (0, "kept\n")
            # Everything else is as it would be without.
            assert await inside.run("echo n > new && mv new moved && ln moved hard && chmod 600 hard && rm moved") == (
                0,
                "",
            )
            assert await inside.run("mv sub elsewhere && mv elsewhere sub") == (0, "")
        after = (project / "file").stat()
        assert [
            getattr(before, name) for name in ("st_ino", "st_mode", "st_uid", "st_nlink", "st_mtime_ns", "st_size")
        ] == [getattr(after, name) for name in ("st_ino", "st_mode", "st_uid", "st_nlink", "st_mtime_ns", "st_size")]
        assert (project / "hard").read_text() == "n\n"

    run_clean(main())


def test_the_directories_above_it_stay_where_they_are(project: Path, run_clean: Runner) -> None:
    async def main() -> None:
        async with shell(project, "sub/deep/file") as inside:
            for line in ("mv sub x", "mv sub/deep x", "mv sub/deep sub/x", "rm -rf sub/deep"):
                await inside.refused(line, "busy")
            await inside.refused("echo x > sub/deep/file", "Read-only")
            assert await inside.run("echo n > sub/deep/new; echo n > sub/new; echo n > new") == (0, "")
        assert (project / "sub" / "deep" / "file").read_text() == "kept below\n"

    run_clean(main())


def test_the_host_edits_as_it_likes_and_the_mask_follows(project: Path, run_clean: Runner) -> None:
    def in_place(path: Path) -> None:
        path.write_text("edited\n")

    def by_rename(path: Path) -> None:
        path.with_name("beside").write_text("edited\n")
        path.with_name("beside").replace(path)

    def anew(path: Path) -> None:
        path.unlink()
        path.write_text("edited\n")

    def with_its_directory(path: Path) -> None:
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        path.write_text("edited\n")

    def with_its_directory_moved_in(path: Path) -> None:
        path.parent.rename(path.parent.with_name("old"))
        beside = path.parent.with_name("beside")
        beside.mkdir()
        (beside / path.name).write_text("edited\n")
        beside.rename(path.parent)

    async def main() -> None:
        edits = (in_place, by_rename, by_rename, anew)
        async with shell(project, "file", "sub/deep/file") as inside:
            for edit in edits:
                edit(project / "file")
                # It writes nothing, and is refused where the file is masked.
                await inside.until("true >> file", lambda code: code != 0)
                await inside.refused("rm -f file", "busy")
                assert await inside.run("cat file") == (0, "edited\n")
            for edit in (*edits, with_its_directory, with_its_directory_moved_in):
                edit(project / "sub" / "deep" / "file")
                await inside.until("true >> sub/deep/file", lambda code: code != 0)
                await inside.refused("mv sub/deep sub/x", "busy")
                await inside.refused("mv sub x", "busy")

    run_clean(main())


def test_a_file_that_comes_later_and_links(project: Path, run_clean: Runner) -> None:
    (project / "link").symlink_to("file")
    (project / "out").symlink_to("/etc/hostname")

    async def main() -> None:
        async with shell(project, "later", "none/at/all", "link", "out", "file") as inside:
            (project / "later").write_text("host's\n")
            await inside.until("true >> later", lambda code: code != 0)
            for name in ("link", "out", "later"):
                await inside.refused(f"rm -f {name}", "busy")
                await inside.refused(f"echo x > new-{name}; mv -f new-{name} {name}", "busy")
            await inside.refused("echo x > link", "Read-only")

    run_clean(main())


@pytest.mark.parametrize("masks", [(), ("file",)])
def test_it_ends_as_the_command_does(project: Path, run_clean: Runner, masks: tuple[str, ...]) -> None:
    async def main() -> None:
        for line, code in (("exit 7", 7), ("kill -9 $$", -9), ("kill -TERM $$", -15)):
            async with shell(project, *masks) as inside:
                assert inside.process.stdin is not None
                inside.process.stdin.write(line.encode() + b"\n")
                assert await asyncio.wait_for(inside.process.wait(), DEADLINE_S) == code

    run_clean(main())


def test_the_command_does_not_outlive_its_watch(
    project: Path, run_clean: Runner, ended: Callable[[int, float], bool]
) -> None:
    """Without it the next file that the host puts there would not be masked."""

    async def main() -> int:
        async with shell(project, "file") as inside:
            _, output = await inside.run("echo $$")
            assert int(output) != inside.process.pid
            inside.process.send_signal(signal.SIGKILL)
            await asyncio.wait_for(inside.process.wait(), DEADLINE_S)
            return int(output)

    assert ended(run_clean(main()), DEADLINE_S)


def test_descriptors_are_the_commands_alone(project: Path, run_clean: Runner) -> None:
    async def main() -> None:
        place = project.with_name("place")
        place.mkdir()
        reader, writer = os.pipe()
        try:
            command = ["sh", "-c", f"exec {writer}>&-; exec sleep 600"]
            async with spawn_masked(command, project, place, [Mask("file")], pass_fds=[writer]):
                os.close(writer)
                # End of file: nobody else has it.
                assert await asyncio.wait_for(asyncio.to_thread(os.read, reader, 1), DEADLINE_S) == b""
        finally:
            os.close(reader)

    run_clean(main())


def test_a_source_that_became_a_link_is_not_served(project: Path, run_clean: Runner) -> None:
    project.with_name("real").mkdir()
    shutil.rmtree(project)
    project.symlink_to("real")

    async def main() -> None:
        for source in (project, project / "below"):
            with pytest.raises(VmmError, match="leads through a link now") as caught:
                async with spawn_masked(["true"], source, project.with_name("real"), []):
                    raise AssertionError
            assert not isinstance(caught.value, MaskError)

    run_clean(main())


REFUSING = """
import asyncio, pathlib, sys
from vmm.masking import why_unmasked
pathlib.Path("/proc/sys/user/max_mnt_namespaces").write_text("0")
print(asyncio.run(why_unmasked()))
"""


def test_a_host_without_namespaces_is_told_of() -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Ur", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces to be forbidden something in")
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [unshare, "-Ur", sys.executable, "-c", REFUSING],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.stdout == "mount namespaces cannot be used here: No space left on device\n", done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has been tested above")
def test_as_an_ordinary_user(tmp_path: Path) -> None:
    """In a user namespace, whose privileges the command does not get."""
    nobody, python = 65534, "/usr/bin/python3"
    base = Path("/tmp") / f"mask-{os.getpid()}"
    try:
        base.mkdir()
        shutil.copy(SCRIPT, base / "mask.py")
        for name in ("project", "place"):
            (base / name).mkdir()
        (base / "project" / "file").write_text("kept\n")
        for path in (base, *base.rglob("*")):
            os.chown(path, nobody, nobody)
        reader, writer = os.pipe()
        script = 'cd "$0"; echo x > file; rm -f file; mv file x; echo n > new; grep CapEff: /proc/self/status; id -u'
        source, place = str(base / "project"), str(base / "place")
        argv = [python, "-I", "-S", str(base / "mask.py"), str(writer), source, place, "read-only:file", "--"]
        argv += ["sh", "-c", script, place]
        try:
            with subprocess.Popen(
                argv,
                user=nobody,
                group=nobody,
                extra_groups=[],
                pass_fds=[writer],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process:
                os.close(writer)
                said = os.read(reader, 1000).decode()
                output = process.communicate(timeout=DEADLINE_S)[0]
        except (FileNotFoundError, PermissionError):
            pytest.skip(f"{nobody} cannot run {python}")
        finally:
            os.close(reader)
        if said != "ready":
            pytest.skip(said)
        assert "Read-only" in output and output.count("busy") == 2
        assert "CapEff:\t0000000000000000" in output and output.endswith(f"{nobody}\n")
        assert (base / "project" / "file").read_text() == "kept\n"
        assert (base / "project" / "new").stat().st_uid == nobody
    finally:
        shutil.rmtree(base, ignore_errors=True)
