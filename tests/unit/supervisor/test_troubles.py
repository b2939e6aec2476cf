"""What keeps a sandbox from working now is told as it comes and goes, also on a disk that is full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli.commands.ls import trouble_lines
from engine.gateway.journal import Journal
from engine.state.instance_paths import InstancePaths, Sockets
from engine.state.instances import Listed
from engine.state.layout import Layout
from engine.state.troubles import LONGEST, MOST, ROOM, make_troubles, read_troubles, write_troubles
from engine.supervisor.troubles import Troubles, told_of_room
from engine.workspaces.mount_point import MountPoint
from vmm.fileserver import quota

MOUNT = MountPoint("/home/me/project", "/workspace", False, limit=5 << 30)


@pytest.fixture
def paths(tmp_path: Path) -> InstancePaths:
    return InstancePaths(tmp_path, Sockets(tmp_path / "sockets"))


def test_a_mount_that_takes_no_more_is_told_once_and_that_it_is_over(paths: InstancePaths) -> None:
    said_to_log: list[str] = []
    with Journal(paths.journal) as journal:
        troubles = Troubles(paths, journal, said_to_log.append)
        for word in (quota.LIMIT, quota.LIMIT, quota.DISK, quota.ROOM, quota.ROOM):
            told_of_room(troubles, MOUNT, word)
            now = read_troubles(paths.troubles)
            assert len(now) == (word != quota.ROOM)
    said = [json.loads(line)["reason"] for line in paths.journal.read_text().splitlines()]
    assert said[0] == "/workspace takes no more: the machine has added its limit of 5.0 GiB to /home/me/project"
    assert said == said_to_log and len(said) == 3
    assert said[2] == f"no longer: {said[1]}"


def test_ls_says_it_of_those_that_run() -> None:
    layout = Layout.from_environment(os.environ)
    paths = layout.instance("box")
    paths.directory.mkdir(parents=True)
    make_troubles(paths.troubles)
    write_troubles(paths.troubles, ["no room\x1b[2J"])
    lines = trouble_lines(layout, Listed("box", "running", "running"))
    assert len(lines) == 1 and lines[0].startswith("box: no room") and "\x1b" not in lines[0]
    assert trouble_lines(layout, Listed("box", "dead", "dead")) == []


def test_the_file_is_always_as_long_and_what_is_none_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "troubles.json"
    assert read_troubles(path) == ()
    make_troubles(path)
    for texts in ([], ["one"], ["\N{GRINNING FACE}" * 2 * LONGEST] * 2 * MOST, ["last"]):
        write_troubles(path, texts)
        assert path.stat().st_size == ROOM
        assert len(read_troubles(path)) == min(len(texts), MOST) or len(texts) > MOST
    assert read_troubles(path) == ("last",)
    path.write_text("[1")
    assert read_troubles(path) == ()


FULL = """
import subprocess, sys
from pathlib import Path
from engine.state.troubles import make_troubles, read_troubles, write_troubles
directory = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(directory)], check=True)
make_troubles(directory / "troubles.json")
try:
    with open(directory / "big", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError as error:
    assert error.strerror == "No space left on device"
write_troubles(directory / "troubles.json", ["the disk is full"])
print(*read_troubles(directory / "troubles.json"))
"""


def test_that_the_disk_is_full_fits_a_full_disk(tmp_path: Path) -> None:
    inside = ["unshare", "--user", "--map-root-user", "--mount"]
    if sys.platform != "linux" or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces on this host")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [*inside, sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.stdout == "the disk is full\n", done.stderr
