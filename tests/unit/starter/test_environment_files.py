"""sbxenv.yaml and its kits: variables of the host, agents that a kit extends, and kits of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from starter_conversion import Converted, written

HEAD = 'schemaVersion: "1"\n'


def convert(root: Path, text: str, **kits: str) -> Converted:
    files = {"sbxenv.yaml": HEAD + text, **{f"kits/{name}/spec.yaml": kit for name, kit in kits.items()}}
    return Converted(written(root / "shop", files, "sbxenv.yaml"))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("${SBX_NAME:-hub}", "hub"),
        ("${SBX_NAME-hub}", "hub"),
        ("hub-$USER", None),
        ("hub-${USER}", None),
        ("hub-$$USER", "hub-user"),
    ],
)
def test_a_variable_in_the_name_is_its_default(tmp_path: Path, name: str, made: str | None) -> None:
    done = convert(tmp_path, f"name: {name}\n")
    assert done.sandbox.name == (made or "shop")
    assert done.listed == ({} if made else {"name": "it needs the variable USER of this host"})


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("$HOME/src/shop", "~/src/shop"),
        ("${HOME}", "~"),
        ("${SRC:-./app}", "./app"),
        ("$HOMESTEAD/x", None),
        ("$SRC/x", None),
    ],
)
def test_a_variable_in_a_path(tmp_path: Path, path: str, source: str | None) -> None:
    done = convert(tmp_path, f"workspace: .\nadditionalWorkspaces: [{{path: '{path}'}}]\n")
    further = [proposal.value["source"] for proposal in done.found.proposals if proposal.section == "mounts"][1:]
    assert further == ([source] if source else [])
    assert bool(done.listed) == (source is None)


@pytest.mark.parametrize(
    ("text", "agent"),
    [
        ("agent: mine\nkits: [./kits/one, ./kits/two]\n", "claude-code"),
        ("agent: ./kits/two\n", "claude-code"),
        ("agent: other\nkits: [./kits/two]\n", None),
        ("agent: mine\nkits: [./kits/gone, docker.io/a/mine:1]\n", None),
        ("agent: ../mine\n", None),
    ],
)
def test_an_agent_that_a_kit_extends(tmp_path: Path, text: str, agent: str | None) -> None:
    kits = {"one": "schemaVersion: '2'\nname: one\n", "two": "schemaVersion: '2'\nname: mine\nextends: claude\n"}
    done = convert(tmp_path, text, **kits)
    assert done.found.agent == agent and ("agent" in done.listed) == (agent is None)


V2 = """\
schemaVersion: "2"
name: tool
setup:
  install:
    - {command: [npm, install, -g, pnpm], user: "1000"}
    - command: |
        set -eu
        apt-get update; pip install x
    - {command: "curl ${{ kit.args.gone }}"}
  files: [{path: /etc/x}]
permissions: {network: {allow: [a.example], deny: [b.example]}}
credentials: [{service: acme, apiKey: {name: ACME_KEY, inject: [{domain: api.acme.example}]}}, {service: odd}]
ports: [{container: 8080}, {container: 53, protocol: udp}]
requires: {agent: claude}
"""
V3 = """\
schemaVersion: "3"
name: tool
args: {v: {default: 7}}
capabilities:
  - {type: docker.com/network-policy@1, config: {install: {allow: [a.example]}, runtime: {allow: [c.example]}}}
  - {type: credential@1, config: {service: acme, apiKey: {name: ACME_KEY, inject: [{domain: api.acme.example}]}}}
  - {type: lifecycle@1, config: {install: [{command: "cargo install x --version ${{ kit.args.v }}", user: agent}]}}
  - {type: ssh-agent@1}
build: {context: .}
"""


def test_a_kit_of_version_2(tmp_path: Path) -> None:
    done = convert(tmp_path, "kits: [./kits/k]\n", k=V2)
    assert [step["run"] for step in done.setup()] == [
        "npm install -g pnpm",
        "sudo sh -c 'set -eu\napt-get update; pip install x\n'",
    ]
    ends = done.sandbox.endpoints
    assert {end.group for end in ends if end.group} == {"debian", "npm", "pypi"}
    assert {(end.host, end.deny, end.secret) for end in ends if end.host} == {
        ("a.example", False, None),
        ("b.example", True, None),
        ("api.acme.example", False, "acme"),
    }
    assert [port.guest for port in done.sandbox.ports] == [8080] and list(done.sandbox.secrets) == ["acme"]
    reasons = " | ".join(item.reason for item in done.found.left_out)
    for part in ("an argument that has no default", "/etc/x", "credential odd", "only TCP ports", "requires"):
        assert part in reasons


def test_a_kit_of_version_3(tmp_path: Path) -> None:
    done = convert(tmp_path, "kits: [{source: ./kits/k}]\n", k=V3)
    assert [step["run"] for step in done.setup()] == ["cargo install x --version 7"]
    ends = {end.group or end.host for end in done.sandbox.endpoints}
    assert ends == {"debian", "crates", "a.example", "c.example", "api.acme.example"}
    reasons = [item.reason for item in done.found.left_out]
    assert any("ssh-agent" in reason for reason in reasons) and any("its image" in reason for reason in reasons)


@pytest.mark.parametrize("kit", ["{", "schemaVersion: '4'\n", "- a\n", ""])
def test_a_kit_that_cannot_be_read_is_listed(tmp_path: Path, kit: str) -> None:
    done = convert(tmp_path, "agent: k\nkits: [./kits/k]\n", k=kit)
    assert set(done.listed) == {"agent", "kits[0]"} and done.setup() == []
