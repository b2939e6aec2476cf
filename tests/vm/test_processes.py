"""Real QEMU and file servers as processes of ours: they start, speak, and end, whatever happens to whom."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import select
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from foundation_world import processes_with, shared_tools
from open_memory import open_memory

from vmm import virtiofs
from vmm.disk import make_disk, make_overlay
from vmm.errors import VmmError
from vmm.machine import Machine, start_machine
from vmm.process import ProcessError, run
from vmm.spec import Drive, GuestForward, MachineSpec, Memory, Network, kernel_arguments
from vmm.tools import Tools, to_json
from vmm.virtiofs import SharedDirectory, serve_directory

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]
PANIC_S = 60.0  # 2 s on an idle machine
STARTER = """
import asyncio, sys
from pathlib import Path
from vmm.machine import start_machine
from vmm.spec import MachineSpec, Memory
from vmm.tools import from_json

async def main(description, directory):
    tools = from_json(description.read_text(), directory)
    spec = MachineSpec("killed", "tcg", 1, Memory(128 * 2**20), tools.kernel, description, "", (), incoming=True)
    async with start_machine(spec, tools) as machine:
        print(machine.pid, flush=True)
        await machine.wait()

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def waiting_spec(tools: Tools, directory: Path) -> MachineSpec:
    """A machine that waits for a state to be loaded: QEMU answers, no guest runs."""
    initrd = directory / "initrd"
    initrd.write_bytes(b"no file system")
    return MachineSpec(
        directory.name, "tcg", 1, Memory(128 * MIB), tools.kernel, initrd, kernel_arguments(), (), incoming=True
    )


@contextlib.asynccontextmanager
async def started(directory: Path) -> AsyncIterator[Machine]:
    tools = await shared_tools()
    async with start_machine(waiting_spec(tools, directory), tools) as machine:
        yield machine


def ended(pid: int, timeout_s: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


def test_a_guest_without_root_panics_on_the_console(tmp_path: Path) -> None:
    async def main() -> int:
        tools = await shared_tools()
        spec = dataclasses.replace(waiting_spec(tools, tmp_path), incoming=False)
        async with start_machine(spec, tools, console_log=tmp_path / "console.log") as machine:
            assert "Kernel panic" in await machine.console.wait_for("Kernel panic", PANIC_S)
            # panic=-1 and -no-reboot: the machine is over, and QEMU with it.
            assert await asyncio.wait_for(machine.wait(), PANIC_S) == 0
            pid = machine.pid
        assert "Kernel panic" in machine.console.last_words()
        return pid

    assert ended(asyncio.run(main()), 0)
    assert b"Kernel panic" in (tmp_path / "console.log").read_bytes()


def test_the_machine_is_gone_after_the_block(tmp_path: Path) -> None:
    async def main() -> int:
        async with started(tmp_path) as machine:
            answer = await machine.qmp.execute("query-status")
            assert answer["status"] == "inmigrate"
            assert "10." in await machine.qmp.monitor("info version")
            return machine.pid

    assert ended(asyncio.run(main()), 0)
    assert processes_with(str(tmp_path)) == []


def test_the_machine_is_gone_after_a_cancellation(tmp_path: Path) -> None:
    pids: list[int] = []

    async def hold(ready: asyncio.Event) -> None:
        async with started(tmp_path) as machine:
            pids.append(machine.pid)
            ready.set()
            await machine.wait()

    async def main() -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(hold(ready))
        await ready.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert ended(pids[0], 0)


def test_the_machine_is_gone_after_kill_9_of_its_starter(tmp_path: Path) -> None:
    tools = asyncio.run(shared_tools())
    description, directory = tmp_path / "tools.json", tools.kernel.parents[1]
    description.write_text(to_json(tools, directory))
    command = [sys.executable, "-c", STARTER, str(description), str(directory)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as starter:
        try:
            assert starter.stdout is not None
            pid = int(starter.stdout.readline())
            assert not ended(pid, 0)
        finally:
            starter.kill()
    assert ended(pid, 2)


def test_quit_is_an_orderly_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with started(tmp_path) as machine:
            await machine.quit()
            assert machine.process.returncode == 0
            with pytest.raises(VmmError, match="QEMU was gone"):
                await machine.qmp.execute("query-status")

    asyncio.run(main())


def test_qemus_own_words_say_why_it_did_not_start(tmp_path: Path) -> None:
    async def main() -> None:
        tools = await shared_tools()
        drives = (Drive(tmp_path / "missing, file", "disk"),)
        async with start_machine(dataclasses.replace(waiting_spec(tools, tmp_path), drives=drives), tools):
            raise AssertionError

    with pytest.raises(VmmError, match="QEMU did not start") as caught:
        asyncio.run(main())
    assert "missing, file" in (caught.value.details or "")


def test_a_state_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nonsense").write_bytes(b"nonsense")

    async def main() -> None:
        async with started(tmp_path) as machine:
            await machine.load(tmp_path / "nonsense")

    with pytest.raises(VmmError, match=r"migrate-incoming failed|QEMU ended|QEMU was gone"):
        asyncio.run(main())


def test_difficult_paths_and_forwards_are_understood(tmp_path: Path) -> None:
    """What the golden command lines promise, said to the real parser."""
    folder = tmp_path / "a b,c=d 'e'"
    folder.mkdir()

    async def main() -> None:
        tools = await shared_tools()
        await make_disk(tools, folder / "base.raw", 64 * MIB)
        await make_overlay(tools, folder / "disk.qcow2", folder / "base.raw", "raw", relative=True)
        network = Network(guest_forwards=(GuestForward(443, folder / "gateway.sock"),))
        drives = (
            Drive(folder / "base.raw", "base", "raw", read_only=True),
            Drive(folder / "disk.qcow2", "disk"),
        )
        spec = dataclasses.replace(waiting_spec(tools, tmp_path), drives=drives, network=network)
        async with start_machine(spec, tools) as machine:
            names = {entry["inserted"]["file"] for entry in await machine.qmp.execute("query-block")}
            assert names == {str(folder / "base.raw"), str(folder / "disk.qcow2")}

    asyncio.run(main())


def test_a_disk_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        tools = await shared_tools()
        await make_overlay(tools, tmp_path / "disk.qcow2", tmp_path / "missing", "qcow2")

    with pytest.raises(ProcessError, match="failed with code 1") as caught:
        asyncio.run(main())
    assert "missing" in (caught.value.details or "")


def test_a_file_server_serves_one_client_and_ends(tmp_path: Path) -> None:
    server = Path(os.environ["SANDBOX_RUNTIME_DIR"]) / "v.sock"

    async def main() -> None:
        async with serve_directory(SharedDirectory(tmp_path, "mount0"), server) as holds:
            assert holds in ("namespaces, Landlock", "namespaces", "Landlock")
            assert server.stat().st_mode & 0o777 == 0o600
            assert processes_with(f'"source": "{tmp_path}"')
            reader, writer = await asyncio.open_unix_connection(server)
            # vhost-user: GET_FEATURES, version 1, no payload; the answer has 8 bytes of payload.
            writer.write(b"".join(number.to_bytes(4, "little") for number in (1, 1, 0)))
            answer = await asyncio.wait_for(reader.readexactly(20), 20)
            assert answer[:4] == b"\x01\0\0\0"
            writer.close()

    asyncio.run(main())
    assert not server.exists()
    assert not server.with_suffix("").exists()
    assert processes_with(str(server.with_suffix(""))) == []


def test_a_directory_is_plugged_into_a_machine(tmp_path: Path) -> None:
    server = Path(os.environ["SANDBOX_RUNTIME_DIR"]) / "v.sock"

    async def main() -> None:
        tools = await shared_tools()
        with open_memory(128 * MIB) as descriptor:
            memory = Memory(128 * MIB, Path(f"/proc/self/fd/{descriptor}"), shared=True)
            spec = dataclasses.replace(waiting_spec(tools, tmp_path), memory=memory)
            async with (
                serve_directory(SharedDirectory(tmp_path, "mount0"), server),
                start_machine(spec, tools, pass_fds=[descriptor]) as machine,
            ):
                await machine.plug_mount("mount0", 0, server)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_what_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    source, server = tmp_path / kind, Path(os.environ["SANDBOX_RUNTIME_DIR"]) / "v.sock"
    (tmp_path / "file").touch()

    async def main() -> None:
        async with serve_directory(SharedDirectory(source, "mount0"), server):
            raise AssertionError

    with pytest.raises(VmmError, match=kind):
        asyncio.run(main())
    assert not server.exists()


@pytest.mark.parametrize("kind", ["gone", "link"])
def test_a_directory_that_changes_behind_our_check_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    source, server = tmp_path / "source", Path(os.environ["SANDBOX_RUNTIME_DIR"]) / "v.sock"
    source.mkdir()

    def owner(path: Path) -> tuple[int, int]:
        path.rmdir()
        if kind == "link":
            path.symlink_to(tmp_path)
        return 0, 0

    monkeypatch.setattr(virtiofs, "host_owner", owner)

    async def main() -> None:
        async with serve_directory(SharedDirectory(source, "mount0"), server):
            raise AssertionError

    with pytest.raises(VmmError, match="leads through a link now" if kind == "link" else "No such file"):
        asyncio.run(main())
    assert not server.exists() and not server.with_suffix("").exists()


def test_the_file_servers_words_say_why_a_mount_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU must be refused, not wait for a server that will never answer."""
    server = Path(os.environ["SANDBOX_RUNTIME_DIR"]) / "v.sock"
    start = virtiofs.START.replace("from vmm", "import vmm.fileserver.vhost as v; v.MAX_PAYLOAD = 0; from vmm", 1)
    monkeypatch.setattr(virtiofs, "START", start)

    async def main() -> None:
        tools = await shared_tools()
        with open_memory(128 * MIB) as descriptor:
            memory = Memory(128 * MIB, Path(f"/proc/self/fd/{descriptor}"), shared=True)
            spec = dataclasses.replace(waiting_spec(tools, tmp_path), memory=memory)
            async with (
                serve_directory(SharedDirectory(tmp_path, "mount0"), server),
                start_machine(spec, tools, pass_fds=[descriptor]) as machine,
            ):
                await machine.plug_mount("mount0", 0, server)

    with pytest.raises(VmmError, match="the file server could not serve") as caught:
        asyncio.run(main())
    assert "the file server ends: message" in (caught.value.details or "")
    assert "QEMU refused" in str(caught.value.__cause__)
    assert not server.exists()


def test_the_toolchain_runs_on_the_leash() -> None:
    """Its dynamic loader takes the program as an argument: code and output pass through all of that."""

    async def main() -> None:
        tools = await shared_tools()
        for tool in (tools.qemu, tools.qemu_img):
            done = await run(tool.command("--version"), env=tool.env, timeout_s=60)
            assert tool.version in done.stdout.decode()

    asyncio.run(main())


def test_netcat_joins_a_socket_and_ends_with_it(tmp_path: Path) -> None:
    """What a guest's connection becomes on the host."""
    path = Path(os.environ["SANDBOX_RUNTIME_DIR"]) / "gateway.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read(-1)).upper())
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        tools = await shared_tools()
        async with await asyncio.start_unix_server(answer, path):
            done = await run(
                tools.connect.command("-N", "-U", str(path)), env=tools.connect.env, stdin=b"hello", timeout_s=20
            )
            return done.stdout

    assert asyncio.run(main()) == b"HELLO"
