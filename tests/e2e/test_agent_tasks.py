"""Real agents from npm, by `agent: {use: ...}`, on a task: the vendor gets the real key, and the guest never has it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import value_search
from vendors import MUST_BE_ROOT, Vendors, build, start_vendors, values
from world import World

from engine import resources
from engine.agents import load_agent

KEYS = {
    "ANTHROPIC_API_KEY": "sk-ant-api03-real-and-never-in-the-guest",
    "OPENAI_API_KEY": "sk-real-and-never-in-the-guest",
}
# What the model has the agent run; `$(...)` some agents refuse.
COMMAND = "expr 40 + 2 | sed s,^,proof-, | tee proof.txt"
ENV = {**KEYS, "AGENT_COMMAND": COMMAND}
TASK_S = 900.0
OURS = ("qemu-system", "engine.supervisor", "passt", "vmm.fileserver")  # the vendors' have the key
TASK = "say what forty and two make"
HEADERS = {
    "claude-code": ("api.anthropic.com", "x-api-key", KEYS["ANTHROPIC_API_KEY"]),
    "codex": ("api.openai.com", "authorization", f"Bearer {KEYS['OPENAI_API_KEY']}"),
}


@MUST_BE_ROOT
@pytest.mark.parametrize("agent", HEADERS)
def test_a_task_is_done_with_the_real_key_outside(world: World, agent: str) -> None:
    project = world.project("", directory=agent)
    template = resources.templates() / agent / "Sandboxfile.yaml"
    (project / "Sandboxfile.yaml").write_text(template.read_text())
    build(world, project, ENV)
    host, header, key = HEADERS[agent]
    with start_vendors(world, [host], "model_vendor.py", ENV) as vendor:
        began = time.time()
        argv = ("run", "--yes", "--json", "--keep", "--progress", "plain", "--timeout", "10m", "-p", TASK)
        ran = world.sandbox(*argv, cwd=project, timeout_s=TASK_S).ok()
        done = json.loads(ran.out)
        _is_done(done, project, agent)
        _key_at_vendor_alone(vendor, host, header, key, ran.out + ran.err)
        assert done["kept"] and done["why"] is None
        _key_is_nowhere(world, project, str(done["sandbox"]), key.split()[-1], began)
        world.sandbox("down", str(done["sandbox"]), cwd=project).ok()
        again = json.loads(world.sandbox(*argv[:3], *argv[4:], cwd=project, timeout_s=TASK_S).ok().out)
        assert again["exit"] == 0 and not again["kept"]
        assert world.listed(project) == [], "the machine of the task is gone"


def _key_is_nowhere(world: World, project: Path, name: str, key: str, since: float) -> None:
    """Neither in the guest's files and environments, nor in its memory, its disk, its snapshot or what is kept of it.

    A word that is planted in the guest is found by the same search.
    """
    places = "/etc /home /opt /root /run /tmp /var/lib /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
    look = f"cat > /dev/shm/word; grep -rlF -f /dev/shm/word {places}; rm /dev/shm/word"
    argv = ("exec", "-i", "-u", "root", name, "--", "sh", "-c", look)
    assert world.sandbox(*argv, cwd=project, stdin="proxy-managed\n").out != "", "the placeholder is found"
    processes = world.processes()
    (qemu,) = [pid for pid, command in processes.items() if "qemu-system" in command]
    # The key is not sent into the guest to be looked for there: the search from outside would find that.
    word = f"planted-{os.urandom(12).hex()}"
    plant = f"echo {word} > /home/agent/planted; echo {word} > /dev/shm/planted; sync"
    world.sandbox("exec", "-u", "root", name, "--", "sh", "-c", plant, cwd=project).ok()
    needles = {**value_search.forms(key), "planted": word.encode()}
    memory, _ = value_search.in_memory(qemu, needles)
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


def _is_done(done: dict[str, object], project: Path, agent: str) -> None:
    assert done["exit"] == 0, done
    assert done["agent"] == {"name": agent, "version": load_agent(agent).install.version}
    assert "proof-42" in str(done["result"]), done
    assert done["changed"] == ["proof.txt"] and (project / "proof.txt").read_text() == "proof-42\n"
    assert done["refused"] == [] and done["usage"] is not None


def _key_at_vendor_alone(vendor: Vendors, host: str, header: str, key: str, told: str) -> None:
    got = vendor.got()
    assert len(got) >= 2 and {one["host"] for one in got} == {host}
    assert all(values(one, header) == [key] for one in got)
    assert not any(key.split()[-1] in json.dumps(one["body"]) for one in got), "what the agent itself says has no key"
    assert key.split()[-1] not in told
    refused = vendor.directory / "refused"
    assert not refused.exists(), refused.read_text()
