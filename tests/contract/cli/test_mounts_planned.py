"""`plan` says what of each mount the guest cannot see, and what it cannot change."""

from __future__ import annotations

import json

from cli_world import CommandLine

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
