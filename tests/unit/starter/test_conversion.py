"""Files of other tools as Sandboxfiles: what is carried over, what is listed, and a file that loads."""

from __future__ import annotations

from pathlib import Path

import pytest
from starter_conversion import Converted, written

from engine.errors import EngineError
from engine.starter.starting import look
from sandboxfile import SandboxfileError


def test_compose_that_fits_is_included(tmp_path: Path) -> None:
    text = 'version: "3"\nname: My Shop\nservices:\n  db: {image: postgres:17}\n  web: {build: .}\n'
    source = written(tmp_path, {"docker-compose.yml": text, "Dockerfile": "FROM ghcr.io/a/b\n"}, "docker-compose.yml")
    done = Converted(source)
    assert "services:\n  include: docker-compose.yml " in done.text
    assert set(done.sandbox.services) == {"db", "web"} and done.sandbox.name == "my-shop"
    assert done.listed == {"version": "Compose itself has no use for it any more"}
    assert {"ghcr", "docker-hub"} <= {endpoint.group for endpoint in done.sandbox.endpoints}


COMPOSE = """\
version: "3"
name: ${PROJECT:-my shop}
x-common: &common {restart: always}
services:
  web:
    <<: *common
    image: web
    secrets: [pw]
    volumes: [".:/app", "../outside:/o"]
    command: ["--flag", true]
  db:
    image: postgres:17
    environment: {A: "${FOO:-x}", B: $BAR, C: "$$x", D: "${MUST:?say it}"}
    volumes: ["/var/run/docker.sock:/s"]
    <<: *common
  typo: {image: x, frobnicate: yes}
  ports: {image: x, ports: ["5432:5432", "1:2:3:4"]}
  needs: {image: x, depends_on: [typo]}
  broken: {}
  cache: {image: redis, networks: [inner]}
secrets: {pw: {environment: PW}}
models: {a: {}}
volumes: {data: {}, bad: {driver: [1]}}
networks: {inner: {}}
configs: [1]
"""


def test_compose_that_does_not_fit_is_copied_by_whole_services(tmp_path: Path) -> None:
    done = Converted(written(tmp_path, {"compose.yaml": COMPOSE}, "compose.yaml"), unset=["MUST"])
    assert set(done.sandbox.services) == {"db", "cache"} and set(done.sandbox.volumes) == {"data"}
    db = done.sandbox.services["db"]
    assert db["environment"] == {"A": "x", "B": "", "C": "$x", "D": "1"} and db["restart"] == "always"
    assert '"${FOO:-x}"' in done.text and "$BAR" in done.text and done.sandbox.name == "my-shop"
    assert set(done.listed) == {
        "version", "x-common", "secrets", "models", "services.web", "services.typo", "services.ports",
        "services.needs", "services.broken", "volumes.bad", "configs",
    }  # fmt: skip
    assert done.place("services.web")[0] in (8, 9, 10) and done.place("services.ports") == (17, 42)
    assert done.place("services.typo") == (16, 20)
    assert done.listed["services.needs"].startswith("left out whole: depends_on[0]: ")
    assert "no credential enters the machine" in done.listed["secrets"]
    assert any("/var/run/docker.sock" in note for note in done.found.notes)
    assert any("demands MUST" in note for note in done.found.notes)
    # What breaks comes first, and what means nothing last.
    order = [item.path for item in done.found.left_out]
    assert order[0].startswith("services.") and order[-1] in ("version", "x-common")


def test_compose_elsewhere(tmp_path: Path) -> None:
    source = written(
        tmp_path, {"deploy/compose.yaml": "services: {a: {build: .}}", "deploy/Dockerfile": ""}, "deploy/compose.yaml"
    )
    done = Converted(source, tmp_path)
    assert "include: deploy/compose.yaml " in done.text
    source.write_text("services: {a: {build: ., nonsense: 1}, b: {build: ./x, env_file: ../c.env}}")
    (tmp_path / "c.env").write_text("A=1")
    done = Converted(source, tmp_path)
    assert done.sandbox.services == {"b": {"build": "deploy/x", "env_file": "c.env"}}
    assert done.listed == {"services.a": "left out whole: nonsense: unknown key"}


def test_nothing_is_reached_for_a_service_that_is_left_out(tmp_path: Path) -> None:
    text = "services: {a: {image: postgres, nonsense: 1}, b: {image: ghcr.io/x/y}}"
    done = Converted(written(tmp_path, {"compose.yaml": text}, "compose.yaml"))
    assert set(done.sandbox.services) == {"b"} and "docker-hub" not in done.text and "ghcr" in done.text


def test_what_only_left_out_services_use_goes_with_them(tmp_path: Path) -> None:
    text = """\
services:
  db:
    image: postgres
    nonsense: 1
    volumes: ["pg:/var/lib", {type: volume, source: both, target: /b}]
    networks: {inner: {}, shared: {}}
    configs: [one]
  web: {image: ghcr.io/x/y, volumes: ["both:/b"], networks: [shared]}
volumes: {pg: {}, both: {}, nobody: {}}
networks: {inner: {}, shared: {}}
configs: {one: {content: "1"}}
"""
    done = Converted(written(tmp_path, {"compose.yaml": text}, "compose.yaml"))
    assert set(done.sandbox.services) == {"web"}
    assert set(done.sandbox.volumes) == {"both", "nobody"} and "inner" not in done.text and "configs" not in done.text
    only = {path for path, reason in done.listed.items() if reason == "only what is left out uses it"}
    assert only == {"volumes.pg", "networks.inner", "configs.one"}


@pytest.mark.parametrize("name", ["devcontainer.json", "compose.yaml", "sbxenv.yaml"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("[1]", "the file must be a mapping"),
        ("{}\n---\n{}\n", "a second document begins here"),
    ],
)
def test_a_broken_file_is_told_without_words_for_ours(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(SandboxfileError) as caught:
        look(None, written(tmp_path, {name: text}, name))
    [problem] = caught.value.diagnostics
    assert (problem.message, problem.hint) == (message, None)


def test_a_compose_file_of_the_project_neither(tmp_path: Path) -> None:
    for text, reason in (("", "the file is empty"), ("[1]", "the file must be a mapping")):
        written(tmp_path, {"compose.yaml": text}, "")
        assert look(tmp_path, None).found.notes == [f"compose.yaml was not taken over: {reason}"]


def test_compose_whose_paths_lead_up(tmp_path: Path) -> None:
    source = written(tmp_path, {"docker/compose.yaml": "services: {a: {build: ..}}", "Dockerfile": ""}, "docker")
    done = Converted(source / "compose.yaml")
    assert done.sandbox.services == {} and set(done.listed) == {"services.a"}
    [note] = done.found.notes
    assert "its paths lead out of this directory" in note and note.endswith("includes it as it is")
    assert set(Converted(source / "compose.yaml", tmp_path / "Sandboxfile.yaml").sandbox.services) == {"a"}


def test_compose_that_names_the_project_from_outside(tmp_path: Path) -> None:
    """A path that leads out of the project and back into it, by its name."""
    text = "services: {a: {image: x, volumes: ['../../blog:/w', '../../blog/lib:/l', '../../other:/o']}}"
    source = written(tmp_path / "blog", {".devcontainer/compose.yaml": text}, ".devcontainer/compose.yaml")
    assert set(Converted(source).listed) == {"services.a"}
    source.write_text(text.replace(", '../../other:/o'", ""))
    done = Converted(source)
    assert done.sandbox.services["a"]["volumes"] == ["./.:/w", "./lib:/l"] and "include: .devcontainer/" in done.text


def test_hopeless_compose(tmp_path: Path) -> None:
    done = Converted(
        written(tmp_path, {"compose.yaml": "services: {a: 1, b: [], c: {image: 1}}\nnetworks: x\n"}, "compose.yaml")
    )
    assert done.sandbox.services == {} and done.listed


# --- dev containers

SBXENV = """\
schemaVersion: "1"
name: Web App
agent: claude
args:
  channel: {default: stable, enum: [stable, beta]}
  endpoint: {required: true}
  cpus: {default: "4"}
workspace: {path: ./web, clone: true}
additionalWorkspaces:
  - path: ../shared
  - {path: ./docs, readOnly: true}
  - {path: ./more/docs}
kits: [docker.io/sbx/playwright-kit:latest, {source: ./kits/tool}]
env:
  NODE_ENV: test
  CHANNEL: ${{ env.args.channel }}
  API: ${{ env.args.endpoint }}
  P: $PATH:/opt/bin
  L: "$${{ env.args.channel }}"
sandboxOptions: {cpus: "${{ env.args.cpus }}", memory: 8g, gpu: true, template: x}
secrets:
  anthropic: {ref: "op://x", refresh: 55m}
  github: {command: rm -rf / }
  stripe: {value: sk_live_1234}
  lonely: {command: x}
bindings: {stripe: {apiKey: {domains: [api.stripe.com]}}}
registries: {ghcr.io: {secret: {command: gh auth token}}}
mcp: {servers: [{name: x, url: "https://x.example"}]}
ports: [{sandbox: 3000, host: 3000}, {sandbox: 53, protocol: udp}, {sandbox: 8081, hostIP: 0.0.0.0}, {host: 1}]
lifecycle: {initialize: [{command: rm -rf /}], postCreate: [{command: x}]}
future: 1
"""


def test_environment_file(tmp_path: Path) -> None:
    done = Converted(written(tmp_path, {"sbxenv.yaml": SBXENV}, "sbxenv.yaml"))
    sandbox = done.sandbox
    assert sandbox.name == "web-app" and sandbox.agent is not None and sandbox.agent.use == "claude-code"
    assert sandbox.agent.env == {
        "NODE_ENV": "test", "CHANNEL": "stable", "P": "$PATH:/opt/bin", "L": "${{ env.args.channel }}",
    }  # fmt: skip
    assert [(mount.source, mount.target, mount.mode) for mount in sandbox.mounts] == [
        ("./web", "/workspace", "clone"),
        ("../shared", "/workspaces/shared", "rw"),
        ("./docs", "/workspaces/docs", "ro"),
        ("./more/docs", "/workspaces/docs-2", "rw"),
    ]
    assert (sandbox.machine.cpus, sandbox.machine.memory) == (4, 8 << 30)
    assert {name: secret.env for name, secret in sandbox.secrets.items()} == {
        "anthropic": "ANTHROPIC_API_KEY", "github": "GH_TOKEN", "stripe": "STRIPE_TOKEN",
    }  # fmt: skip
    assert {end.host: end.secret for end in sandbox.endpoints} == {
        "api.anthropic.com": "anthropic", "api.github.com": "github", "api.stripe.com": "stripe",
    }  # fmt: skip
    assert [(port.host, port.guest) for port in sandbox.ports] == [(3000, 3000), (None, 8081)]


def test_what_an_environment_file_leaves_out(tmp_path: Path) -> None:
    done = Converted(written(tmp_path, {"sbxenv.yaml": SBXENV}, "sbxenv.yaml"))
    assert set(done.listed) == {
        "args.channel", "args.endpoint", "args.cpus", "kits[0]", "kits[1]", "env.API", "sandboxOptions.gpu",
        "sandboxOptions.template", "secrets.anthropic.ref", "secrets.anthropic.refresh", "secrets.github.command",
        "secrets.stripe.value", "secrets.lonely.command", "secrets.lonely", "registries['ghcr.io']", "mcp.servers[0]",
        "ports[1].protocol", "ports[2].hostIP", "ports[3]", "lifecycle.initialize[0]", "lifecycle.postCreate[0]",
        "future",
    }  # fmt: skip
    assert "sk_live" not in done.text + str(done.listed) and "rm -rf" not in done.text
    assert done.place("lifecycle.initialize[0]") == (30, 26)
    assert done.listed["secrets.github.command"].endswith("put what it prints into GH_TOKEN")


def test_environment_file_elsewhere(tmp_path: Path) -> None:
    source = written(
        tmp_path,
        {"env/my.sbxenv.yaml": 'schemaVersion: "1"\nagent: shell\nworkspace: ..\n', "app/x": ""},
        "env/my.sbxenv.yaml",
    )
    done = Converted(source, tmp_path / "app")
    assert [(mount.source, mount.target) for mount in done.sandbox.mounts] == [("..", "/workspace")]


@pytest.mark.parametrize(
    ("text", "listed", "agent"),
    [
        ("agent: codex", set(), "codex"),
        ("agent: nobody", {"agent"}, None),
        ("agent: [1]", {"agent"}, None),
        ("name: '***'", {"name"}, None),
        ("env: {A: [1], B: null}", {"env.A", "env.B"}, None),
        ("env: {'no name': x}", {"from env: agent.env['no name']"}, None),
        ("sandboxOptions: {cpus: 0, memory: 1}", {"sandboxOptions.memory"}, None),
        ("sandboxOptions: {cpus: many}", {"sandboxOptions.cpus"}, None),
        ("sandboxOptions: {cpus: 100}", {"from sandboxOptions: machine.cpus"}, None),
        ("ports: [1]\nlifecycle: 1\nmcp: 1\nkits: 1\nsecrets: 1\nargs: 1\nadditionalWorkspaces: 1", {"ports[0]"}, None),
        ("secrets: {'x y': {}}\nbindings: {'x y': {apiKey: {domains: [a.example]}}}", set(), None),
    ],
)
def test_odd_environment_files(tmp_path: Path, text: str, listed: set[str], agent: str | None) -> None:
    done = Converted(written(tmp_path, {"sbxenv.yaml": f'schemaVersion: "1"\n{text}\n'}, "sbxenv.yaml"))
    assert listed <= set(done.listed) and done.sandbox.mounts == ()
    assert done.sandbox.agent is not None and done.sandbox.agent.use == agent


# --- which kind


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("sbxenv.yaml", 'schemaVersion: "2"\n', EngineError),
        ("other.yaml", "a: 1\n", EngineError),
        ("compose.yaml", "services: [\n", SandboxfileError),
        ("devcontainer.json", "{", SandboxfileError),
        ("compose.yaml", "", SandboxfileError),
    ],
)
def test_refused(tmp_path: Path, name: str, text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        look(None, written(tmp_path, {name: text}, name))


def test_by_content_and_by_directory(tmp_path: Path) -> None:
    assert Converted(written(tmp_path, {"stack.yaml": "services: {a: {image: x}}"}, "stack.yaml")).sandbox.services
    written(tmp_path, {".devcontainer/devcontainer.json": '{"name": "dev"}'}, "")
    assert look(None, tmp_path / ".devcontainer").found.proposals[0].value == "dev"
    with pytest.raises(EngineError, match="does not exist"):
        look(None, tmp_path / "nowhere")


@pytest.mark.parametrize("name", [".devcontainer.json", "docker-compose.yml", ".devcontainer/cpu/devcontainer.json"])
def test_a_directory_is_searched(tmp_path: Path, name: str) -> None:
    content = "services: {a: {image: x}}" if name.endswith("yml") else '{"name": "a"}'
    written(tmp_path, {name: content}, name)
    assert look(None, tmp_path).source == tmp_path / name


def test_several_dev_containers_are_a_choice(tmp_path: Path) -> None:
    written(tmp_path, {f".devcontainer/{name}/devcontainer.json": "{}" for name in ("a", "b")}, "")
    with pytest.raises(EngineError, match="several dev containers"):
        look(None, tmp_path)


def test_expressions_of_an_environment_file(tmp_path: Path) -> None:
    text = """\
schemaVersion: "1"
name: x-${{ env.args.kind }}
agent: ${{ env.args.kind }}
workspace: ${{ env.projectDir }}
additionalWorkspaces: [{path: "${{ env.fileDir }}/docs"}]
args: {kind: {default: claude}, idle: {default: x}}
env: {A: "${{ env.other }}", B: "${{ env.projectDir }}/bin"}
bindings: {github: {apiKey: {domains: [api.github.com]}}}
kits: [./kit, docker.io/a/b:1]
"""
    kit = """\
schemaVersion: "2"
kind: mixin
name: k
args: {v: {default: "1"}}
permissions: {network: {allow: [a.example.com]}}
setup: {install: [{command: "apt-get install -y x-${{ kit.args.v }}"}], startup: [{command: [x]}]}
environment: {variables: {K: "1"}}
"""
    done = Converted(written(tmp_path, {"sbxenv.yaml": text, "kit/spec.yaml": kit, "docs/x": ""}, "sbxenv.yaml"))
    agent = done.sandbox.agent
    assert done.sandbox.name == "x-claude" and agent is not None and agent.use == "claude-code"
    assert agent.env == {"B": "/workspace/bin", "K": "1"}
    assert [mount.source for mount in done.sandbox.mounts] == [".", "./docs"]
    assert done.setup()[0]["run"] == "sudo sh -c 'apt-get install -y x-1'"
    assert {"a.example.com", "api.github.com"} <= {end.host for end in done.sandbox.endpoints}
    assert set(done.listed) == {"args.kind", "args.idle", "env.A", "kits[0]", "kits[1]"}
