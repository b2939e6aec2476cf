"""`plan` says what of each mount the guest cannot see or change, and how its share of the processors is kept."""

from __future__ import annotations

import json

import pytest
from cli_world import CommandLine

from vmm.processor_share import look

FILE = """\
version: "1"
mounts:
  - {source: ., target: /workspace, hide: [.env, "*.pem"]}
  - {source: ., target: /open, protect: false}
  - {source: ., target: /read, mode: ro}
"""


def test_plan_says_what_is_hidden_and_read_only(sandbox: CommandLine) -> None:
    sandbox.file(FILE)
    ran = sandbox("plan")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    (protected,) = [line for line in lines if line.startswith("/workspace")]
    assert "hidden: .env, *.pem; read-only: .git/config, .git/hooks, " in protected
    assert [line.split()[:2] for line in lines if line.startswith(("/open", "/read"))] == [["/open", "read-only:"]]
    (one, other, _) = json.loads(sandbox("plan", "--json").out)["mounts"]
    assert ".claude/settings.json" in one["protected"] and one["hide"] == [".env", "*.pem"]
    assert "Sandboxfile.yaml" in other["protected"] and ".git/hooks" not in other["protected"]


@pytest.mark.parametrize("weight", [100, 50, 400])
def test_plan_says_by_what_a_weight_is_kept(sandbox: CommandLine, weight: int) -> None:
    sandbox.file(f'version: "1"\nmachine: {{cpu_weight: {weight}}}\n')
    kept, lines = look(weight), sandbox("plan").out.splitlines()
    said = [line for line in lines if "weight" in line]
    if weight == 100:
        assert said == []
    else:
        assert said == [kept.warning or f"processors  weight {weight}, in a control group of its own"]
    planned = json.loads(sandbox("plan", "--json").out)["cpu_weight"]
    assert planned == {"weight": weight, "by": kept.by, "warning": kept.warning}
