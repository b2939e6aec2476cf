"""Every process of the running quickstart, as the kernel sees it, against the table of what it may do.

`tests/unit/lifecycle/test_held_processes.py` alters each fact that is judged here, one at a time, and sees it named.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from asked_process import can_ask
from held_processes import Complaint, Host, complaints, kind_of
from seen_process import command_of, family, read_process
from test_quickstart import EXAMPLE
from world import World

from engine.lifecycle.confinement import CODE, DISK, DISKS, PROCESSES, SHARE
from engine.resolve.host_ports import pick_port, port_is_free

CACHE = Path(os.environ.get("SANDBOX_CACHE_DIR", Path.home() / ".cache" / "sandbox"))
PYTHONS = (sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parents[1]))


@pytest.fixture
def project(world: World) -> Path:
    """The quickstart, which runs."""
    project = world.base / "quickstart"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("RESULT.md"))
    file = project / "Sandboxfile.yaml"
    if not port_is_free(8080):  # with its own port its snapshot is cached
        file.write_text(file.read_text().replace("8080:8080", f"{pick_port()}:8080"))
    world.up(project)
    return project


def host_of(project: Path) -> Host:
    disk = os.environ["SANDBOX_STATE_DIR"] + "/instances/quickstart/disk.qcow2\n"
    words = {
        DISKS: (f"{CACHE}/", disk),
        DISK: (disk,),
        SHARE: ("/\n", f"{project}/workspace"),  # its root, seen from here
        CODE: (f"{CACHE}/", *PYTHONS),
    }
    ours = read_process(os.getpid()).namespaces
    assert ours is not None
    return Host(ours, os.geteuid() == 0, words)


def test_each_process_is_held_as_the_table_says(world: World, project: Path) -> None:
    host = host_of(project)
    (sandbox,) = world.listed(project)
    said: list[Complaint] = []
    rows, asked, beside = set(), set(), set()
    for pid in list(family(sandbox["pid"])):
        try:
            command = command_of(pid)
            held = kind_of(command)
            if held is None:
                said.append(Complaint("no row", "process", command))
                continue
            probe = project / "Sandboxfile.yaml" if held.landlocked else None
            seen = read_process(pid, host.namespaces, probe)
        except (FileNotFoundError, ProcessLookupError):  # it has ended; those that have to be there are counted below
            continue
        said += complaints(seen, held, host)
        rows.add(held.name)
        asked |= {held.name} if seen.tried is not None else set()
        beside |= {held.name} if seen.tried is not None and seen.tried["beside"] is not None else set()
    assert said == [], "\n".join(": ".join(one) for one in said)
    # The waker is there while a sandbox is paused: test_woken_by_a_port.py.
    assert rows == {held.name for held in PROCESSES if not held.name.startswith("waker")}
    assert asked == ({held.name for held in PROCESSES if held.landlocked} if can_ask() else set())
    assert beside >= ({held.name for held in PROCESSES if held.root and held.landlocked} if can_ask() else set())
