"""What the kernel has as the weight of a running sandbox's processes, and that a change of the file changes it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from seen_process import family
from test_quickstart import EXAMPLE
from world import World

from engine.resolve.host_ports import pick_port, port_is_free


def weights(pid: int) -> set[str]:
    """Of the process and of all that it has started: the weight of a group of theirs, else priorities."""
    found = set()
    for one in family(pid):
        own = next((line[3:] for line in Path(f"/proc/{one}/cgroup").read_text().splitlines() if line[:3] == "0::"), "")
        if "/sandbox-" in own:
            mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            [place] = [words[4] for words in mounts if words[words.index("-") + 1] == "cgroup2"]
            found.add(f"group {Path(f'{place}{own}/cpu.weight').read_text().strip()}")
            continue
        threads = [int(task.name) for task in Path(f"/proc/{one}/task").iterdir()]
        begun = os.getpriority(os.PRIO_PROCESS, 0)  # with which we have started it
        found |= {f"nice {os.getpriority(os.PRIO_PROCESS, thread) - begun}" for thread in threads}
        session = Path(f"/proc/{one}/autogroup")
        if session.exists() and (words := session.read_text().split()):
            found.add(" ".join(words[-2:]))
    return found


def test_the_weight_of_the_file_is_that_of_its_processes(world: World) -> None:
    project = world.base / "quickstart"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("RESULT.md"))
    file = project / "Sandboxfile.yaml"
    text = file.read_text().replace("disk: 20GiB}", "disk: 20GiB, cpu_weight: 41}")
    file.write_text(text if port_is_free(8080) else text.replace("8080:8080", f"{pick_port()}:8080"))
    planned = json.loads(world.sandbox("plan", "--json", cwd=project).ok().out)["cpu_weight"]
    said = world.up(project)
    assert planned["weight"] == 41 and (planned["warning"] or "") in said.out + said.err
    [sandbox] = world.listed(project)
    first, second = {"group": ("group 41", "group 20"), "priority": ("nice 4", "nice 7")}[planned["by"]]
    assert weights(sandbox["pid"]) == {first}
    [row] = json.loads(world.sandbox("stats", "--json", cwd=project).ok().out)
    assert row["cpu_weight"] == 41

    file.write_text(file.read_text().replace("cpu_weight: 41", "cpu_weight: 20"))
    assert "41 -> 20" in world.sandbox("plan", cwd=project).ok().out
    world.up(project)
    assert world.listed(project)[0]["pid"] == sandbox["pid"], "it is the same machine"
    assert weights(sandbox["pid"]) == {second}
