"""After a whole task of a real agent its user's key is nowhere in the machine: RAM, disk, environments, snapshot."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from vendors import MUST_BE_ROOT, build, start_vendors, values
from world import World

from engine import resources
from engine.attacks import value_search

ANTHROPIC, OPENAI = "sk-ant-api03-real-and-never-in-the-guest", "sk-openai-real-and-never-in-the-guest"
# Host, header, the header's value, and the key in it.
VENDORS = {
    "claude-code": ("api.anthropic.com", "x-api-key", ANTHROPIC, ANTHROPIC),
    "codex": ("api.openai.com", "authorization", f"Bearer {OPENAI}", OPENAI),
}
COMMAND = "expr 40 + 2 | sed s,^,proof-, | tee proof.txt"
KEYS = {host: [header, value] for host, header, value, _ in VENDORS.values()}
ENV = {
    "ANTHROPIC_API_KEY": ANTHROPIC,
    "OPENAI_API_KEY": OPENAI,
    "AGENT_COMMANDS": json.dumps([COMMAND]),
    "AGENT_KEYS": json.dumps(KEYS),
}
TASK_S = 900.0
OURS = ("qemu-system", "engine.supervisor", "passt", "vmm.fileserver")  # the vendors' processes have the key


@MUST_BE_ROOT
@pytest.mark.parametrize("agent", VENDORS)
def test_the_key_is_nowhere_after_a_task(world: World, agent: str) -> None:
    project = world.project("", directory=agent)
    template = (resources.templates() / agent / "Sandboxfile.yaml").read_text()
    (project / "Sandboxfile.yaml").write_text(template)
    build(world, project, ENV)
    host, header, value, key = VENDORS[agent]
    with start_vendors(world, [host], "model_vendor.py", ENV) as vendor:
        since = time.time()
        argv = ("run", "--yes", "--json", "--keep", "--progress", "plain", "--timeout", "10m", "-p", "work")
        done = json.loads(world.sandbox(*argv, cwd=project, timeout_s=TASK_S).ok().out)
        assert (done["exit"], done["why"], done["kept"]) == (0, None, True), done
        got = vendor.got()
        assert len(got) >= 2 and all(values(one, header) == [value] for one in got), "it was used"
        _key_is_nowhere(world, project, done["sandbox"], key, since)
        world.sandbox("down", done["sandbox"], cwd=project).ok()
        assert world.listed(project) == []


def _key_is_nowhere(world: World, project: Path, name: str, key: str, since: float) -> None:
    """The search is from outside: a key that is sent into the guest to be looked for is there.

    A word that is planted in the guest's memory and on its disk is found by the same search.
    """
    word = f"planted-{os.urandom(12).hex()}"
    plant = f"echo {word} > /home/agent/planted; echo {word} > /dev/shm/planted; sync"
    world.sandbox("exec", "-u", "root", name, "--", "sh", "-c", plant, cwd=project).ok()
    needles = {**value_search.forms(key), "planted": word.encode()}
    processes = world.processes()
    (qemu,) = [pid for pid, command in processes.items() if "qemu-system" in command]
    memory, read = value_search.in_memory(qemu, needles)
    print(f"{name}: searched {read >> 20} MiB of QEMU's memory")
    assert memory == {"planted"}, f"QEMU's memory holds {memory}"

    roots = [Path(os.environ[f"SANDBOX_{root}_DIR"]) for root in ("STATE", "RUNTIME")]
    kept = value_search.in_files(roots, needles)
    assert kept == {str(roots[0] / "instances" / name / "disk.qcow2"): {"planted"}}, kept

    cache = Path(os.environ["SANDBOX_CACHE_DIR"])
    markers = [*cache.glob("agent/*/complete"), *cache.glob("booted/*/complete")]
    used = [marker.parent for marker in markers if marker.stat().st_mtime >= since]
    assert any("agent" in entry.parts for entry in used), "the snapshot that it was restored from"
    assert value_search.in_files(used, needles) == {}

    ours = [pid for pid, command in processes.items() if any(part in command for part in OURS)]
    assert len(ours) >= 3 and value_search.in_processes(ours, needles) == {}

    # In the guest: the environments and arguments of its processes, by the beginnings that real keys have.
    look = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c 'real-and-neve[r]'"
    seen = world.sandbox("exec", "-u", "root", name, "--", "sh", "-c", look, cwd=project)
    assert seen.out == "0\n", seen
