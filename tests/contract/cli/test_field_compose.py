"""What Compose files of real projects have: profiles, names without a value, includes, tags, and things never there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cli_world import CommandLine

HEAD = 'version: "1"\nagent: {command: [bash]}\n'
IMAGE = 'image: "localhost/debian:13"'


def services(sandbox: CommandLine, *argv: str, **env: str) -> dict[str, Any]:
    ran = sandbox("config", "--json", *argv, **env)
    assert ran.code == 0, ran.err
    return dict(json.loads(ran.out)["services"])


PROFILES = f"""{HEAD}services:
  web: {{{IMAGE}, ports: ["8080:80"]}}
  spare: {{{IMAGE}, ports: ["8080:80"], profiles: [spare]}}
  tools: {{{IMAGE}, profiles: [tools, all]}}
"""


def test_a_service_with_profiles_is_there_only_while_one_is_active(sandbox: CommandLine) -> None:
    sandbox.file(PROFILES)
    assert list(services(sandbox)) == ["web"]
    assert list(services(sandbox, "--profile", "all")) == ["web", "tools"]
    assert list(services(sandbox, COMPOSE_PROFILES="none, tools")) == ["web", "tools"]
    assert list(services(sandbox, "--set", "profiles=[tools]")) == ["web", "tools"]
    ran = sandbox("plan", "--profile", "tools")
    assert ran.code == 0 and "web, tools up and healthy" in ran.out


def test_ports_of_two_active_services_collide(sandbox: CommandLine) -> None:
    sandbox.file(PROFILES)
    assert sandbox("validate").code == 0
    ran = sandbox("validate", "--profile", "*")
    assert ran.code == 2 and "services.spare.ports[0]: publishes port 8080/tcp" in ran.err


def test_the_profiles_of_the_variable_are_in_the_resolved_file(sandbox: CommandLine) -> None:
    sandbox.file(PROFILES)
    ran = sandbox("config", COMPOSE_PROFILES="tools")
    sandbox.file(ran.out)
    assert list(services(sandbox)) == ["web", "tools"]


@pytest.mark.parametrize(
    "needs",
    ["depends_on: [db]", "links: [db]", 'network_mode: "service:db"', "depends_on: {db: {condition: service_started}}"],
)
def test_what_needs_an_inactive_service_is_refused(sandbox: CommandLine, needs: str) -> None:
    sandbox.file(f"{HEAD}services:\n  web: {{{IMAGE}, {needs}}}\n  db: {{{IMAGE}, profiles: [data]}}\n")
    ran = sandbox("validate")
    assert ran.code == 2 and "Sandboxfile.yaml:4:" in ran.err and "its profile data is not active" in ran.err
    assert sandbox("validate", "--profile", "data").code == 0


def test_what_may_be_missing_and_what_is_extended(sandbox: CommandLine) -> None:
    sandbox.file(
        f"{HEAD}services:\n  base: {{{IMAGE}, profiles: [none], environment: {{A: b}}}}\n"
        "  app: {extends: base, profiles: !override [app]}\n"
        f"  web: {{{IMAGE}, depends_on: {{app: {{condition: service_started, required: false}}}}}}\n"
    )
    assert list(services(sandbox)) == ["web"] and "depends_on" not in services(sandbox)["web"]
    app = services(sandbox, "--profile", "app")["app"]
    assert app["environment"] == {"A": "b"} and "extends" not in app


def test_a_name_without_a_value_has_that_of_the_user(sandbox: CommandLine) -> None:
    (sandbox.project / ".env").write_text("ONE=from-file\nTWO=from-file\n")
    (sandbox.project / "Dockerfile").write_text("FROM scratch\n")
    sandbox.file(
        f"{HEAD}services:\n  a: {{{IMAGE}, environment: [ONE, TWO, GONE, A=1]}}\n"
        "  b: {build: {context: ., args: {TWO: }}, environment: {ONE: }}\n"
    )
    found = services(sandbox, TWO="from-shell")
    assert found["a"]["environment"] == ["ONE=from-file", "TWO=from-shell", "GONE", "A=1"]
    assert found["b"]["environment"] == {"ONE": "from-file"} and found["b"]["build"]["args"] == {"TWO": "from-shell"}
    ran = sandbox("validate")
    assert (
        "Sandboxfile.yaml:4:61: warning: services.a.environment[2]: the variable GONE is not set" in ran.err + ran.out
    )


def test_a_name_of_a_secret_is_not_carried(sandbox: CommandLine) -> None:
    sandbox.file(
        f"{HEAD}endpoints: [{{host: api.example.com, secret: key}}]\nsecrets: {{key: {{env: API_KEY}}}}\n"
        f"services: {{a: {{{IMAGE}, environment: [API_KEY]}}}}\n"
    )
    ran = sandbox("validate", API_KEY="hunter2-hunter2")
    assert ran.code == 2 and "API_KEY is the value of secrets.key" in ran.err and "hunter2" not in ran.err + ran.out


@pytest.mark.parametrize(
    ("entry", "image"),
    [
        ("inner/redis.yaml", "redis:beside"),
        ("{path: inner/redis.yaml, env_file: named.env}", "redis:named"),
        ("{path: inner/redis.yaml, env_file: [inner/.env, named.env]}", "redis:named"),
        ("{path: inner/redis.yaml, project_directory: other}", "redis:other"),
    ],
)
def test_variables_of_an_included_file(sandbox: CommandLine, entry: str, image: str) -> None:
    for name in ("inner", "other"):
        (sandbox.project / name).mkdir()
    (sandbox.project / "inner/.env").write_text("TAG=beside\n")
    (sandbox.project / "other/.env").write_text("TAG=other\n")
    (sandbox.project / "named.env").write_text("TAG=named\n")
    sandbox.file('services: {cache: {image: "redis:${TAG}"}}\n', "inner/redis.yaml")
    sandbox.file(f"include: [{entry}]\nservices: {{web: {{{IMAGE}}}}}\n", "compose.yaml")
    sandbox.file(f"{HEAD}services: {{include: compose.yaml}}\n")
    assert services(sandbox)["cache"]["image"] == image
    assert services(sandbox, TAG="shell")["cache"]["image"] == "redis:shell"


def test_a_file_of_variables_that_is_missing_or_outside(sandbox: CommandLine) -> None:
    sandbox.file(f"services: {{web: {{{IMAGE}}}}}\n", "inner.yaml")
    sandbox.file(f"{HEAD}services: {{include: compose.yaml}}\n")
    for name, reason in (("gone.env", "does not exist"), ("../gone.env", "is outside the project")):
        sandbox.file(f"include:\n  - path: inner.yaml\n    env_file: {name}\n", "compose.yaml")
        ran = sandbox("validate")
        assert ran.code == 2 and f"compose.yaml:3:15: include[0].env_file: '{name}' {reason}" in ran.err


def test_reset_and_override(sandbox: CommandLine) -> None:
    sandbox.file(
        f"services: {{web: {{{IMAGE}, ports: ['80:80'], environment: {{A: b}}, cap_add: [SYS_PTRACE]}}}}\n", "a.yaml"
    )
    sandbox.file("services: {web: {ports: !override ['8080:80'], environment: !reset null}}\n", "b.yaml")
    sandbox.file(f"{HEAD}services:\n  include: [a.yaml, b.yaml]\n  web: {{cap_add: !reset []}}\n")
    web = services(sandbox)["web"]
    assert web["ports"] == ["8080:80"] and "environment" not in web and "cap_add" not in web
    over = sandbox.file("services: {web: {ports: ['81:80']}}\n", "over.yaml")
    assert services(sandbox, "-f", str(over))["web"]["ports"] == ["8080:80", "81:80"]
    sandbox.file(f"{HEAD}mounts: !reset []\n")
    assert "the tag !reset is not used here" in sandbox("validate").err


def test_octal_modes_are_those_of_compose_files(sandbox: CommandLine) -> None:
    text = f"services: {{w: {{{IMAGE}, configs: [{{source: c, mode: 0440}}]}}}}\nconfigs: {{c: {{content: x}}}}\n"
    sandbox.file(text, "compose.yaml")
    sandbox.file(f"{HEAD}services: {{include: compose.yaml}}\n")
    assert services(sandbox)["w"]["configs"][0]["mode"] == 0o440
    sandbox.file(HEAD + text)
    assert "ambiguous" in sandbox("validate").err


@pytest.mark.parametrize(
    ("service", "said", "code"),
    [
        ("networks: [far]", "networks.far.external: there is no network that was made elsewhere", 2),
        ("volumes: ['old:/x']", "volumes.old.external: there is no volume that was made elsewhere", 2),
        ("build: {context: ., secrets: [t]}", "services.a.build.secrets: builds cannot be given secrets", 2),
        ("build: {context: ., ssh: [default]}", "services.a.build.ssh: builds cannot be given ssh", 2),
        ("container_name: taken", "services.b.container_name: 'taken' is the name of the container of 'a'", 2),
        ("devices: ['/dev/kvm:/dev/kvm']", "services.a.devices[0]: the machine has no /dev/kvm", 0),
        ("network_mode: 'container:x'", "services.a.network_mode: there is no container 'x'", 0),
        ("volumes_from: ['container:x']", "services.a.volumes_from[0]: there is no container 'x'", 0),
        ("external_links: [x_1:y]", "services.a.external_links[0]: there is no container 'x_1'", 0),
        ("runtime: nvidia", "services.a.runtime: the machine's Docker has no runtime 'nvidia'", 0),
        ("isolation: hyperv", "services.a.isolation: there is no isolation 'hyperv'", 0),
        ("deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}", "there is no GPU", 0),
    ],
)
def test_what_the_machines_docker_never_has(sandbox: CommandLine, service: str, said: str, code: int) -> None:
    (sandbox.project / "Dockerfile").write_text("FROM scratch\n")
    other = f"  b: {{{IMAGE}, container_name: taken}}\n" if "taken" in service else ""
    rest = f"services:\n  a: {{{IMAGE}, {service}}}\n{other}networks: {{far: {{external: true}}}}\n"
    rest += "volumes: {old: {external: true}}\n"
    sandbox.file(HEAD + rest)
    ran = sandbox("validate")
    assert ran.code == code and said in ran.err + ran.out and "Sandboxfile.yaml:" in ran.err + ran.out
    if "external: " in said and "external" in said.split(":")[0]:
        sandbox.file(f"{HEAD}setup: [sudo docker network create far]\n{rest}")
        assert sandbox("validate").code == 0, "a step may have made it"


def test_an_unset_variable_behind_an_error_is_named_once(sandbox: CommandLine) -> None:
    sandbox.file(
        f"{HEAD}services:\n  a: &a {{image: 'redis:${{REDIS_TAG}}'}}\n  b: *a\n  c: {{<<: *a, ports: ['1:1']}}\n"
    )
    ran = sandbox("validate")
    assert ran.code == 2 and ran.err.count("the variable REDIS_TAG is not set") == 1, ran.err


@pytest.mark.parametrize("example", [".env.example", ".env.sample", "example.env"])
def test_a_file_of_variables_that_has_an_example(sandbox: CommandLine, example: str) -> None:
    name = "local.env" if example == "example.env" else ".env"
    example = "local.example.env" if example == "example.env" else example
    (sandbox.project / example).write_text("A=\n")
    sandbox.file(f"{HEAD}services:\n  a: {{{IMAGE}, env_file: {name}}}\n")
    ran = sandbox("plan")
    assert ran.code == 2 and "Sandboxfile.yaml:4:" in ran.err and f"hint: cp {example} {name}" in ran.err
    (sandbox.project / example).unlink()
    assert "required: false" in sandbox("plan").err
    sandbox.file(f"{HEAD}services:\n  a: {{{IMAGE}, env_file: [{{path: {name}, required: false}}]}}\n")
    assert sandbox("plan").code == 0


def test_caches_of_builds(sandbox: CommandLine) -> None:
    (sandbox.project / "Dockerfile").write_text("FROM scratch\n")
    caches = '[type=gha, "type=registry,ref=registry.example/a/b:c", localhost/a, "type=local,src=.cache"]'
    sandbox.file(f"{HEAD}services:\n  a: {{build: {{context: ., cache_from: {caches}, cache_to: [type=gha]}}}}\n")
    ran = sandbox("validate")
    assert ran.code == 0 and ran.err.count("the cache of GitHub Actions is not there") == 2, ran.err
    assert "services.a.build.cache_from[0]" in ran.err and "services.a.build.cache_to[0]" in ran.err
    sandbox.file(f"{HEAD}services:\n  a: {{build: {{context: ., cache_from: ['no such thing']}}}}\n")
    assert sandbox("validate").code == 2


@pytest.mark.parametrize("form", ["{{x: {0}}}", "['x={0}']"])
def test_further_contexts_of_a_build(sandbox: CommandLine, form: str) -> None:
    (sandbox.project / "Dockerfile").write_text("FROM scratch\n")
    (sandbox.project / "shared").mkdir()
    for path, said, code in (
        ("./shared", "", 0),
        ("docker-image://localhost/a", "", 0),
        ("../other", "the context must be inside the project, got '../other'", 2),
        ("gone", "'gone' does not exist in the project", 2),
    ):
        contexts = form.format(path)
        sandbox.file(f"{HEAD}services:\n  a:\n    build:\n      context: .\n      additional_contexts: {contexts}\n")
        ran = sandbox("plan")
        assert ran.code == code and said in ran.err and ("Sandboxfile.yaml:7:" in ran.err) == bool(said), ran.err


@pytest.mark.parametrize(
    ("service", "said", "code"),
    [
        ("networks: [wide]", "networks.wide.driver: the machine's Docker has no driver 'overlay'", 0),
        ("volumes: ['far:/x']", "volumes.far.driver: the machine's Docker has no driver 'rexray': there is local", 0),
        ("volumes: ['~/.aws:/aws']", "services.a.volumes[0]: '~/.aws' is in the machine's home directory", 0),
        ("logging: {driver: awslogs}", "services.a.logging.driver: 'awslogs' sends logs out of the machine", 0),
        ("logging: {driver: local}, volumes: ['/x:/y']", "valid", 0),
        ("gpus: all", "there is no GPU in the machine: remove it", 2),
    ],
)
def test_drivers_that_are_not_there(sandbox: CommandLine, service: str, said: str, code: int) -> None:
    rest = "networks: {wide: {driver: overlay}}\n" if "wide" in service else ""
    rest += "volumes: {far: {driver: rexray}}\n" if "far" in service else ""
    sandbox.file(f"{HEAD}services:\n  a: {{{IMAGE}, {service}}}\n{rest}")
    ran = sandbox("validate")
    assert ran.code == code and said in ran.err + ran.out
    assert said != "valid" or ran.err == ""


def test_a_config_of_a_variable(sandbox: CommandLine) -> None:
    sandbox.file(f"{HEAD}services: {{a: {{{IMAGE}, configs: [c]}}}}\nconfigs: {{c: {{environment: FOO}}}}\n")
    ran = sandbox("validate", FOO="x")
    assert ran.code == 2 and "Sandboxfile.yaml:4:15: configs.c.environment" in ran.err
    assert 'write content: "${FOO}" in its place' in ran.err
    sandbox.file(f"{HEAD}services: {{a: {{{IMAGE}, configs: [c]}}}}\nconfigs: {{c: {{content: '${{FOO}}'}}}}\n")
    assert sandbox("validate", FOO="x").code == 0


def test_variables_that_an_example_has(sandbox: CommandLine) -> None:
    (sandbox.project / ".env.example").write_text("TAG=1\n")
    sandbox.file(f'{HEAD}services:\n  a: {{image: "localhost/a:${{TAG}}"}}\n  b: {{image: "${{IMAGE:?which one}}"}}\n')
    ran = sandbox("validate")
    assert ran.code == 2 and ran.err.count("; or begin with: cp .env.example .env") == 2
    (sandbox.project / ".env").write_text("TAG=1\n")
    assert "cp .env.example" not in sandbox("validate").err


def test_a_missing_path_names_the_nearest(sandbox: CommandLine) -> None:
    (sandbox.project / "web").mkdir()
    (sandbox.project / "Makefile").write_text("")
    sandbox.file(f"{HEAD}setup: [{{run: x, inputs: [MakeFile, gone/x]}}]\nservices: {{a: {{build: ./wbe}}}}\n")
    ran = sandbox("plan")
    assert ran.code == 2 and "did you mean 'Makefile'?" in ran.err and "did you mean 'web'?" in ran.err
    assert "gone has no such name" in ran.err
