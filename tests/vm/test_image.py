"""The guest image: what it boots into, the two places it is built in, and what a killed build leaves."""

from __future__ import annotations

import asyncio
import contextlib
import filecmp
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from foundation_world import DISK_BYTES, processes_with, shared_foundation, shared_tools, wait_until

from engine.build.image import ImageError, build_image, native
from engine.build.image.builder import run_in_builder
from engine.build.toolchain import load_toolchain
from engine.resolve.debian import debian_mirrors
from vmm.channel.guest import GuestChannel
from vmm.disk import make_disk
from vmm.machine import start_machine
from vmm.spec import Drive, MachineSpec, Memory, Network, kernel_arguments

BOOT_S = 240.0


@contextlib.asynccontextmanager
async def booted(directory: Path) -> AsyncIterator[GuestChannel]:
    """A machine of the shared image, up to its dockerd."""
    entries = await shared_foundation()
    tools = load_toolchain(entries["toolchain"])
    disk = directory / "disk.raw"
    await make_disk(tools, disk, DISK_BYTES)
    spec = MachineSpec(
        name="image-test",
        accelerator="tcg",
        cpus=2,
        memory=Memory(2 * 1024**3),
        kernel=tools.kernel,
        initrd=entries["initramfs"] / "initramfs",
        append=kernel_arguments(),
        drives=(Drive(entries["image"] / "root.erofs", "root", "raw", read_only=True), Drive(disk, "disk", "raw")),
        network=Network(),
    )
    async with start_machine(spec, tools, console_log=directory / "console.log") as machine:
        async with GuestChannel(*await machine.channel_streams()) as channel:
            try:
                await channel.hello(timeout_s=BOOT_S)
                await channel.call("wait_unit", timeout_s=BOOT_S, unit="docker.service")
            except Exception:
                print(machine.console.last_words())
                raise
            yield channel


async def succeed(channel: GuestChannel, command: str, timeout_s: float = 240.0, user: str = "root") -> str:
    done = await channel.run(["sh", "-c", command], user=user, timeout_s=timeout_s)
    assert done.code == 0, f"{command}: {done.code}\n{(done.stdout + done.stderr).decode(errors='replace')}"
    return done.stdout.decode().strip()


def test_the_image_boots_into_a_complete_guest(tmp_path: Path) -> None:
    async def run() -> None:
        async with booted(tmp_path) as guest:
            assert await succeed(guest, "systemctl --failed --no-legend") == ""
            # One root, changes on the disk; Docker on the disk itself and not on the overlay.
            assert await succeed(guest, "findmnt -no FSTYPE /") == "overlay"
            for path in ("/var/lib/docker", "/var/lib/containerd"):
                assert await succeed(guest, f"findmnt -no FSTYPE {path}") == "ext4"
            # The kernel that runs is the one whose modules are there.
            await succeed(guest, "modprobe loop && modprobe tun")
            # The agent may do everything, without a password.
            assert await succeed(guest, "sudo -n id -u", user="agent") == "0"
            assert await succeed(guest, "id -u; id -nG", user="agent") == "1000\nagent docker"
            assert await succeed(guest, "stat -c %U /workspace") == "agent"
            # Java's packages link to pages in here, and cannot be installed where there is no directory.
            await succeed(guest, "test -d /usr/share/man/man1")
            # Nobody can log in on the console, and nothing runs at times of its own.
            assert await succeed(guest, "systemctl list-timers --no-legend") == ""
            assert "getty" not in await succeed(guest, "systemctl list-units --no-legend --type=service")
            assert len(await succeed(guest, "cat /etc/machine-id")) == 32
            await look_at_a_lost_timer(guest)
            # An agent that dies is back; the channel of the test dies with it, so systemd is asked first.
            assert await succeed(guest, "systemctl show -P Restart sandbox-guestd") == "always"

    asyncio.run(run())


# The initial count of the local APIC's timer, of the processor that runs this (Intel SDM 3A, 11.5.4): 0 stops it.
LOSE_TIMER = """
import mmap, os
os.sched_setaffinity(0, {0})
apic = mmap.mmap(os.open("/dev/mem", os.O_RDWR | os.O_SYNC), 4096, offset=0xfee00000)
apic[0x380:0x384] = bytes(4)
"""
STALL_S = 2.0


async def look_at_a_lost_timer(guest: GuestChannel) -> None:
    """Who sleeps on a processor that has lost its timer sleeps until guestd has it set again."""
    for _ in range(5):  # the kernel may set it anew at once, of itself, where something else had been due
        lost = await guest.run(["taskset", "1", "python3", "-c", LOSE_TIMER], timeout_s=60)
        assert lost.code == 0, lost.stderr.decode()
        async with guest.open_exec(["taskset", "1", "sleep", "0.1"]) as sleeper:
            ended = asyncio.ensure_future(sleeper.wait())
            await asyncio.wait({ended}, timeout=STALL_S)
            if ended.done():
                continue
            late = (await guest.call("rouse", timeout_s=30))["late"]
            assert late.get("0", 0) >= 1 and set(late) <= {"0"}, late
            assert await asyncio.wait_for(ended, 30) == 0
            assert (await guest.call("rouse", timeout_s=30))["late"] == {}
            return
    raise AssertionError("the timer of processor 0 was never lost")


def test_a_guest_that_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    async def run() -> str:
        entries = await shared_foundation()
        tools = load_toolchain(entries["toolchain"])
        spec = MachineSpec(
            name="no-disk",
            accelerator="tcg",
            cpus=1,
            memory=Memory(512 * 1024**2),
            kernel=tools.kernel,
            initrd=entries["initramfs"] / "initramfs",
            append=kernel_arguments(),
            drives=(Drive(entries["image"] / "root.erofs", "root", "raw", read_only=True),),
        )
        log = tmp_path / "console.log"
        async with start_machine(spec, tools, console_log=log) as machine:
            await asyncio.wait_for(machine.wait(), BOOT_S)
        return log.read_text(errors="replace")

    assert "the guest cannot start: there is no disk with the serial disk" in asyncio.run(run())


def test_every_name_is_the_gateway_in_the_guest_and_in_containers(tmp_path: Path) -> None:
    async def run() -> None:
        async with booted(tmp_path) as guest:
            assert (await succeed(guest, "getent ahostsv4 www.example.com")).split()[0] == "10.0.2.100"
            # No address for IPv6, said at once: the answer is "none", and no timeout.
            ask = "import socket; socket.getaddrinfo('www.example.com', 443, socket.AF_INET6)"
            refused = await guest.run(["timeout", "10", "python3", "-c", ask], timeout_s=30)
            assert b"gaierror" in refused.stderr and refused.code == 1
            await succeed(guest, "echo 10.0.2.101 db.example > /etc/sandbox/hosts.d/declared")

            async def declared() -> bool:
                return (await succeed(guest, "getent hosts db.example")).startswith("10.0.2.101")

            for _ in range(50):  # dnsmasq sees the new file by itself
                if await declared():
                    break
            assert await declared()
            load = """docker import --change 'CMD ["bash"]' /usr/share/sandbox/debian-13.tar localhost/debian:13"""
            await succeed(guest, load)
            container = "docker run --rm {} localhost/debian:13 getent ahostsv4 www.example.com"
            assert (await succeed(guest, container.format(""))).split()[0] == "10.0.2.100"
            await succeed(guest, "docker network create own")
            assert (await succeed(guest, container.format("--network own"))).split()[0] == "10.0.2.100"
            await succeed(guest, "docker compose version && docker buildx version")
            inside = "apt-get --version; test -f /etc/apt/sources.list -a -d /usr/share/man/man1"
            await succeed(guest, f"docker run --rm localhost/debian:13 sh -c '{inside}'")

    asyncio.run(run())


FAKE_RECIPE = """#!/bin/sh
set -eu
echo "==> working"
test "$(id -u)" = 0
grep -q ' /scratch ext4 ' /proc/mounts
# The mirror answers, through the gateway; any other name is refused by it.
wget -q -O /scratch/release MIRROR/dists/trixie/Release
grep -q '^Codename: trixie' /scratch/release
echo "10.0.2.100 other.example" >> /etc/hosts
if wget -q -O /scratch/other http://other.example/; then exit 3; fi
echo ok > /out/packages.txt
echo '{}' > /out/clients.json
echo image > /out/root.erofs
"""


def test_the_builder_machine_runs_a_recipe_and_returns_its_files(tmp_path: Path) -> None:
    mirror = debian_mirrors().archive
    if not mirror.startswith("http://"):
        pytest.skip("busybox speaks no TLS")
    said = asyncio.run(run_builder(tmp_path, FAKE_RECIPE.replace("MIRROR", mirror)))
    assert "working" in said
    assert (tmp_path / "out/root.erofs").read_text() == "image\n"
    assert processes_with(str(tmp_path)) == []


def test_a_recipe_that_fails_in_the_builder_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        asyncio.run(run_builder(tmp_path, "#!/bin/sh\necho the reason\nexit 7\n"))
    assert caught.value.details is not None and "the reason" in caught.value.details
    assert processes_with(str(tmp_path)) == []


async def run_builder(directory: Path, recipe: str) -> list[str]:
    """Run a recipe in a builder machine whose root is busybox: what is tested is the machine."""
    tools = await shared_tools()
    root = directory / "root"
    for name in (
        "usr/bin",
        "usr/sbin",
        "build",
        "scratch",
        "out",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "etc/apt/apt.conf.d",
    ):
        (root / name).mkdir(parents=True)
    shutil.copy2(tools.busybox, root / "usr/bin/busybox")
    for applet in ("sh", "cat", "mkdir", "mount", "ln", "sync", "sleep", "id", "grep", "tar", "test", "wget"):
        (root / "usr/bin" / applet).symlink_to("busybox")
    (root / "bin").symlink_to("usr/bin")
    (root / "build/recipe.sh").write_text(recipe)
    (directory / "scratch").mkdir()
    (directory / "out").mkdir()
    said: list[str] = []
    await run_in_builder(root, directory / "scratch", directory / "out", tools, debian_mirrors(), progress=said.append)
    return said


SLEEPING_BUILD = """
import asyncio, sys
from pathlib import Path
from engine.build.image.native import run_natively
root, work, out = (Path(word) for word in sys.argv[1:])
asyncio.run(run_natively(root, work, out, progress=lambda line: print(line, flush=True)))
"""


@pytest.mark.skipif(native.native_prefix() is None, reason="this user cannot build natively")
def test_a_killed_native_build_leaves_no_process_and_no_mount(tmp_path: Path) -> None:
    async def run() -> None:
        tools = await shared_tools()
        root = tmp_path / "root"
        for name in ("bin", "build", "scratch", "out", "proc", "sys", "dev", "etc"):
            (root / name).mkdir(parents=True)
        for name in ("scratch", "output"):
            (tmp_path / name).mkdir()
        shutil.copy2(tools.busybox, root / "bin/busybox")
        for applet in ("sh", "sleep", "echo"):
            (root / "bin" / applet).symlink_to("busybox")
        marker = f"98765.{os.getpid()}"
        (root / "build/recipe.sh").write_text(f"echo '==> asleep'; sleep {marker} & sleep {marker}; wait\n")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SLEEPING_BUILD, str(root), str(tmp_path / "scratch"), str(tmp_path / "output")),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                assert await process.stdout.readline() == b"asleep\n"
            await wait_until(lambda: len(processes_with(marker)) >= 2, 20, "the recipe's processes")
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        await wait_until(lambda: not processes_with(marker) and not processes_with(str(root)), 20, "all processes gone")
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()

    asyncio.run(run())


@pytest.mark.skipif(
    "SANDBOX_TEST_BUILDER" not in os.environ, reason="takes ten minutes; SANDBOX_TEST_BUILDER=1 runs it"
)
@pytest.mark.timeout(3600)
def test_both_places_build_the_same_image(tmp_path: Path) -> None:
    async def run() -> None:
        tools = await shared_tools()
        images = [
            await build_image(tmp_path / place, tools, progress=print, place=place) for place in ("native", "builder")
        ]
        assert images[0].packages == images[1].packages
        assert images[0].clients == images[1].clients
        assert filecmp.cmp(images[0].root, images[1].root, shallow=False)

    asyncio.run(run())
