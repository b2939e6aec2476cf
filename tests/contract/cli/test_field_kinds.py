"""One small project for each kind of trap that real projects have, and what the commands that start nothing say."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from cli_world import CommandLine

HEAD = 'version: "1"\nagent: {command: [bash]}\n'
IMAGE = "image: localhost/debian:13"


class Kind(NamedTuple):
    """`files` of a project; what the call says somewhere, and what it must not say; and its exit code."""

    name: str
    files: dict[str, str]
    call: str
    said: tuple[str, ...]
    unsaid: tuple[str, ...] = ()
    code: int = 0


def of_services(text: str, name: str = "Sandboxfile.yaml") -> dict[str, str]:
    return {name: f"{HEAD}services:\n{text}"}


KINDS = [
    Kind(
        "profiles",
        of_services(f"  api: {{{IMAGE}}}\n  shell: {{{IMAGE}, profiles: [ops]}}\n"),
        "plan",
        ("api up and healthy",),
        ("shell",),
    ),
    Kind(
        "an optional file of variables",
        of_services(f"  api: {{{IMAGE}, env_file: [{{path: maybe.env, required: false}}]}}\n"),
        "plan",
        ("api up and healthy",),
    ),
    Kind(
        "a file of variables with an example",
        of_services(f"  api:\n    {IMAGE}\n    env_file: [conf/api.env]\n") | {"conf/api.env.sample": ""},
        "plan",
        ("Sandboxfile.yaml:6:16: services.api.env_file[0]", "cp conf/api.env.sample conf/api.env"),
        code=2,
    ),
    Kind(
        "names without values",
        of_services(f"  api: {{{IMAGE}, environment: {{REGION: }}}}\n") | {".env": "REGION=eu\n"},
        "config",
        ("REGION: eu",),
    ),
    Kind(
        "octal modes",
        {
            "compose.yml": f"services: {{a: {{{IMAGE}, configs: [{{source: c, mode: 0400}}]}}}}\n"
            "configs: {c: {content: x}}\n"
        },
        "init -y --print",
        ("include: compose.yml",),
        ("ambiguous",),
    ),
    Kind(
        "reset and override",
        {
            "a.yaml": f"services: {{q: {{{IMAGE}, expose: ['1', '2'], labels: {{a: b}}}}}}\n",
            "b.yaml": "services: {q: {expose: !override ['3'], labels: !reset }}\n",
        }
        | of_services("  include: [a.yaml, b.yaml]\n"),
        "config",
        ('- "3"',),
        ('- "1"', "labels"),
    ),
    Kind(
        "variables beside an included file",
        {
            "deploy/db.yaml": "services: {db: {image: 'localhost/db:${V}'}}\n",
            "deploy/.env": "V=7\n",
            "compose.yaml": "include: [deploy/db.yaml]\nservices: {}\n",
        }
        | of_services("  include: compose.yaml\n"),
        "config",
        ("localhost/db:7",),
    ),
    Kind(
        "external",
        of_services(f"  a: {{{IMAGE}, networks: [n]}}\nnetworks: {{n: {{external: true}}}}\n"),
        "validate",
        ("Sandboxfile.yaml:5:16: networks.n.external", "remove `external`"),
        code=2,
    ),
    Kind(
        "further contexts",
        of_services("  a: {build: {context: ., additional_contexts: [lib=../lib]}}\n")
        | {"Dockerfile": "FROM scratch\n"},
        "validate",
        ("Sandboxfile.yaml:4:49: services.a.build.additional_contexts[0]", "must be inside the project"),
        code=2,
    ),
    Kind(
        "secrets of builds",
        of_services("  a: {build: {context: ., secrets: [{source: npmrc}]}}\n") | {"Dockerfile": "FROM scratch\n"},
        "validate",
        ("services.a.build.secrets", "no credential enters the machine"),
        code=2,
    ),
    Kind(
        "what no machine has",
        of_services(f"  a: {{{IMAGE}, devices: ['/dev/dri:/dev/dri'], pid: 'container:other'}}\n"),
        "validate",
        ("services.a.devices[0]: the machine has no /dev/dri", "there is no container 'other'"),
    ),
    Kind(
        "modules below the live mount",
        {"package.json": '{"name": "x"}', "package-lock.json": "{}"},
        "init -y --print",
        ("npm ci", "in /node_modules no mount hides it"),
    ),
    Kind(
        "yarn of today",
        {
            "package.json": '{"packageManager": "yarn@4.1.1"}',
            "yarn.lock": "__metadata:\n  version: 8\n",
            ".yarnrc.yml": "",
        },
        "init -y --print",
        ("@yarnpkg/cli-dist@4.1.1", "--immutable", ".yarnrc.yml"),
        ("yarn@4.1.1\n", "--frozen-lockfile"),
    ),
    Kind(
        "an override beside a Compose file",
        {
            "docker-compose.yml": "services: {a: {image: localhost/a}}\n",
            "docker-compose.override.yml": "services: {b: {image: localhost/b}}\n",
        },
        "init -y --print",
        ("include: [docker-compose.yml, docker-compose.override.yml]",),
    ),
    Kind(
        "a build that pulls",
        {"compose.yaml": "services: {a: {build: .}}\n", "Dockerfile": "ARG R=registry.example\nFROM ${R}/base:1\n"},
        "init -y --print",
        ("registry.example",),
    ),
    Kind("a project of Elixir", {"mix.exs": "defmodule X do\nend\n"}, "init -y", ("elixir", "- hex|  hex")),
    Kind("a project of Rust", {"Cargo.toml": "[package]\nname = 'x'\n"}, "init -y", ("- crates|  crates",)),
    Kind(
        "a submodule",
        {"Sandboxfile.yaml": f"{HEAD}mounts: [.:/w]\n", ".git": "gitdir: ../super/.git/modules/x\n"},
        "validate",
        ("mounts[0]: ", "git"),
    ),
    Kind(
        "arguments of sbx",
        {
            ".sbxenv.yaml": 'schemaVersion: "1"\nname: ${{ env.args.who }}-box\nagent: ${{ env.args.who }}\n'
            "args: {who: {default: codex}}\nworkspace: ${{ env.projectDir }}\n"
        },
        "init --from .sbxenv.yaml -y --print",
        ("name: codex-box", "use: codex", "target: /workspace|.:/workspace"),
    ),
    Kind(
        "a directory to convert",
        {".devcontainer/devcontainer.json": '{"name": "d", "image": "debian"}'},
        "init --from . -y --print",
        ("name: d",),
    ),
    Kind(
        "a dev container of services",
        {
            ".devcontainer.json": '{"dockerComposeFile": "c.yml", "service": "dev", "forwardPorts": ["q:6"]}',
            "c.yml": "services:\n  dev: {image: localhost/d, environment: {Q: q}}\n  q: {image: localhost/q}\n",
        },
        "init --from .devcontainer.json -y --print",
        ("dev: null", "6:6", "Q: q"),
    ),
    Kind(
        "steps of a dev container",
        {
            "tools/prepare": "",
            ".devcontainer.json": '{"postCreateCommand": "tools/prepare", "onCreateCommand": "sh tools/gone.sh"}',
        },
        "init --from .devcontainer.json -y --print",
        ("inputs: [tools/prepare]", "the project has no tools/gone.sh"),
    ),
    Kind(
        "steps for another distribution",
        {".devcontainer.json": '{"postCreateCommand": "apk add git", "runArgs": ["--device=/dev/kvm"]}'},
        "init --from .devcontainer.json -y",
        ("the machine is Debian, and has no apk", "runArgs[0]"),
    ),
    Kind(
        "half a service",
        {"compose.yaml": "services:\n  good: {image: localhost/g}\n  bad: {build: ../elsewhere, command: [a, true]}\n"},
        "init --from compose.yaml -y --print",
        ("services.bad", "left out whole", "good"),
        ("../elsewhere\n", "command: [a]"),
    ),
    Kind("a directory .env", {".env/pyvenv.cfg": ""} | of_services(f"  a: {{{IMAGE}}}\n"), "validate", ("valid",)),
    Kind(
        "a denial over a permission",
        {
            "Sandboxfile.yaml": f"{HEAD}endpoints: [a.example.com]\n",
            "l.yaml": "endpoints: [{host: a.example.com, deny: true}]\n",
        },
        "config -f l.yaml",
        ("deny: true",),
        ("- a.example.com",),
    ),
    Kind(
        "a local layer of the other ending",
        {"Sandboxfile.yaml": HEAD, "Sandboxfile.local.yml": "machine: {cpus: 3}\n"},
        "config",
        ("cpus: 3",),
    ),
    Kind("a file in lower case", {"sandboxfile.yml": HEAD}, "plan", ("there is sandboxfile.yml: rename it",), code=2),
    Kind(
        "a Compose file in its place",
        {"Sandboxfile.yaml": "version: '3.1'\nservices:\n  a:\n    image: localhost/a\n    restart: always\n"},
        "validate",
        ('version: must be "1"', "this looks like a Compose file"),
        code=2,
    ),
    Kind(
        "files that are missing",
        of_services("  a: {build: {context: ., dockerfile: d/D}}\nsetup: [{run: make, inputs: [Makefile]}]\n"),
        "plan",
        ("setup[0].inputs[0]: 'Makefile' does not exist", "there is no d/D"),
        code=2,
    ),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kind(sandbox: CommandLine, kind: Kind) -> None:
    for name, text in kind.files.items():
        path = sandbox.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ran = sandbox(*kind.call.split())
    both = ran.out + ran.err
    assert ran.code == kind.code, both
    for words in kind.said:
        assert any(word in both for word in words.split("|")), (words, both)
    for word in kind.unsaid:
        assert word not in both, (word, both)


def test_a_bad_file_is_told_alike_by_all(sandbox: CommandLine) -> None:
    sandbox.file(f"{HEAD}bar: 1\n")
    rows: list[Any] = [
        json.loads(sandbox(*call.split(), "--json").out)["diagnostics"]
        for call in ("validate", "plan", "graph", "config")
    ]
    assert all(row == rows[0] for row in rows) and rows[0][0]["line"] == 3
