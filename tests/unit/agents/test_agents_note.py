"""What an agent is told about its machine: all that it can use, and nothing of the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.agents import list_agents
from engine.agents.note import MOST, note_for
from engine.lifecycle.agent import dress
from engine.lifecycle.credentials import Credentials
from sandboxfile import Loaded, load

FILE = """
version: "1"
agent: {use: claude-code}
mounts: [".:/workspace", "./docs:/docs:ro"]
endpoints:
  - npm
  - registry.example.com
  - {host: api.github.com, paths: ["/repos/acme/**"], methods: [GET], secret: github}
  - {host: db.example.com, port: 5432, protocol: tcp}
  - {host: localhost, port: 11434, as: ollama}
  - {github: acme/shop, access: [read, issues], push: ["agent/*"], secret: github}
  - {host: evil.example.com, deny: true}
secrets: {github: {env: VERY_OWN_VARIABLE}}
services:
  web: {image: "web:1", ports: ["8080:80"]}
  db: {image: "postgres:17", environment: {PASSWORD: hush}}
ports: ["3000:3000"]
"""


def read(directory: Path, text: str = FILE) -> Loaded:
    (directory / "docs").mkdir(exist_ok=True)
    (directory / "Sandboxfile.yaml").write_text(text)
    return load(directory / "Sandboxfile.yaml")


def test_it_says_what_is_there_and_how_narrow(tmp_path: Path) -> None:
    note = note_for(read(tmp_path).sandbox, "/workspace")
    for line in (
        "- Your working directory is `/workspace`.",
        "- `/workspace` is a directory of the user, live: what you change there stays.",
        "- `/docs` is a directory of the user, read-only.",
        "- The service `web` runs: from here at `localhost:8080` (its port 80/tcp), and from containers of its project"
        " by that name.",
        "- The service `db` runs: from containers of its project by that name.",
        "- What listens on port 3000 here is published to the user.",
        "- the group npm",
        "- `registry.example.com`",
        "- `api.github.com`, only GET `/repos/acme/**`",
        "- `db.example.com:5432` (tcp)",
        "- `ollama:11434` (a service of the user's computer)",
        "- `github.com/acme/shop`: read, issues, push to `agent/*`",
        "- never: `evil.example.com`",
    ):
        assert f"{line}\n" in note, note
    assert "git's hooks and configuration, and settings of editors and agents, are read-only" in note
    assert "`sandbox-ask HOST --why TEXT`" in note and "`docker compose`" in note and "placeholders" in note


def test_it_has_nothing_of_the_host_and_no_secret(tmp_path: Path) -> None:
    note = note_for(read(tmp_path).sandbox, "/workspace")
    assert str(tmp_path) not in note and "VERY_OWN_VARIABLE" not in note and "hush" not in note


def test_it_stays_short_and_a_file_writes_no_lines_of_its_own(tmp_path: Path) -> None:
    hosts = "".join(f"  - h{n}.example.com\n" for n in range(MOST + 5))
    path = 'paths: ["/a`b/**"]'
    text = f'version: "1"\nendpoints:\n  - {{host: a.example.com, {path}}}\n{hosts}'
    note = note_for(read(tmp_path, text).sandbox, "/home/agent")
    assert "- and 6 more\n" in note and "`a.example.com`, only `/ab/**`" in note
    assert "- none\n" in note_for(read(tmp_path, 'version: "1"\n').sandbox, "/home/agent")


@pytest.mark.parametrize(
    ("agent", "path"),
    [
        ("{use: claude-code}", "/home/agent/.claude/CLAUDE.md"),
        ("{use: codex, user: root}", str(Path("/", "root", ".codex", "AGENTS.md"))),
        ("{use: gemini}", "/home/agent/.gemini/GEMINI.md"),
        ("{use: nanoclaw}", None),
        ("{command: sh}", None),
    ],
)
def test_it_is_where_the_agent_looks(tmp_path: Path, agent: str, path: str | None) -> None:
    dressed = dress(read(tmp_path, f'version: "1"\nagent: {agent}\n'), Credentials())
    assert (dressed.note[0] if dressed.note else None) == path
    assert dressed.note is None or dressed.note[1].startswith("# This machine\n")


def test_a_file_can_leave_it_out(tmp_path: Path) -> None:
    """What an earlier `up` has written goes away then: an empty text."""
    dressed = dress(read(tmp_path, 'version: "1"\nagent: {use: codex, note: false}\n'), Credentials())
    assert dressed.note == ("/home/agent/.codex/AGENTS.md", "")


def test_no_note_is_in_a_workspace() -> None:
    assert all(agent.note is None or agent.note.startswith("~/.") for agent in list_agents())
