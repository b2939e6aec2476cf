"""What is different about a running sandbox, and whether it takes another machine."""

from __future__ import annotations

import copy
import dataclasses
import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from engine.plan.changes import FIELDS, NEW, Change, compare, needs_new_machine, render, sections_of
from engine.state.configuration import PARTS, Configuration
from sandboxfile import Sandbox, parse
from sandboxfile.sections.machine import Idle

HEAD = 'version: "1"\nname: shop\n'
NODES = ("toolchain", "image", "booted", "packages", "setup[0]", "setup[1]")


def configuration(text: str = "", contents: dict[str, str] | None = None, **inputs: dict[str, str]) -> Configuration:
    """Of a file's text. `inputs` are of build nodes, whose keys follow from them and from those before."""
    sandbox = parse(HEAD + text, Path("/project/Sandboxfile.yaml")).sandbox
    build: dict[str, dict[str, Any]] = {}
    key = "0"
    for id in NODES:
        own = {**inputs.get(id.replace("[", "_").rstrip("]"), {}), "parent": key}
        key = json.dumps([id, own])
        build[id] = {"key": key, "inputs": own}
    mounts = tuple(mount.source for mount in sandbox.mounts)
    return Configuration(sandbox.model_dump(mode="json", by_alias=True), mounts, contents or {}, build)


def found(before: str, now: str, **options: Any) -> list[tuple[str, str, str]]:
    changes = compare(configuration(before), configuration(now), **options)
    return [(change.path, change.how, change.what) for change in changes]


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted paths of all fields; of a part that stands alone, those in it instead of itself."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = part(field.annotation)
        if inner is None:
            yield path
        else:
            yield from fields(inner, f"{path}.")


def part(annotation: Any) -> type[BaseModel] | None:
    options = [annotation]
    while options:
        one = options.pop()
        if isinstance(one, type) and issubclass(one, BaseModel) and one is not Idle:  # which is compared as a whole
            return one
        if typing.get_origin(one) in (typing.Union, types.UnionType, typing.Annotated):
            options += typing.get_args(one)
    return None


@pytest.mark.parametrize("rule", ["methods: [GET]", "paths: [/a/**]", "secret: key"])
def test_a_first_certificate_needs_a_new_machine_where_containers_run(rule: str) -> None:
    secrets = "secrets: {key: {env: KEY}}\n"
    services = "services: {web: {image: 'web:1'}}\n"
    before, now = "endpoints: [a.example.com]\n", f"endpoints: [{{host: a.example.com, {rule}}}]\n"
    assert [how for _, how, _ in found(secrets + before, secrets + now)] == ["live", "live"]
    changes = found(secrets + services + before, secrets + services + now)
    assert [how for _, how, _ in changes] == ["live", "live", "new machine"]
    assert "containers that run already" in changes[-1][2]
    more = now.replace("[{", "[b.example.com, {")
    assert [how for _, how, _ in found(secrets + services + now, secrets + services + more)] == ["live"]
    assert [how for _, how, _ in found(secrets + services + now, secrets + services + before)] == ["live", "live"]


def test_every_field_of_the_model_is_classified() -> None:
    assert set(fields(Sandbox)) == set(FIELDS)


def test_what_needs_a_new_machine() -> None:
    """Said once more, since all other tests believe the table."""
    new = {path.split(".")[0] for path, kind in FIELDS.items() if kind == NEW}
    assert new == {"name", "agent", "machine", "packages", "setup", "mounts"}
    live = {path for path, kind in FIELDS.items() if kind not in (NEW, None)}
    assert {path for path in live if "." in path} == {
        f"agent.{key}" for key in ("command", "args", "env", "user", "note", "keep")
    } | {"machine.idle", "machine.network_rate", "machine.cpu_weight"}


def test_the_parts_have_all_live_sections() -> None:
    assert {kind for kind in FIELDS.values() if kind not in (NEW, None)} == set(PARTS)
    assert sections_of("services") == ("services", "volumes", "networks", "configs")
    assert sections_of("record") == ("agent", "machine")


# One value for each field that is compared, and the same file with another.
SERVICE = "services: {web: {image: debian:13"
PAIRS: dict[str, tuple[str, str, str]] = {
    "name": ("", "name: other", "shop -> other"),
    "agent.use": ("agent: {use: claude-code}", "agent: {use: codex}", "claude-code -> codex"),
    "agent.version": ("agent: {use: a, version: '1'}", "agent: {use: a, version: '2'}", "1 -> 2"),
    "agent.command": ("agent: {command: a}", "agent: {command: b}", "- a"),
    "agent.args": ("agent: {command: a}", "agent: {command: a, args: [-x]}", "nothing -> -x"),
    "agent.env": ("agent: {command: a, env: {A: x}}", "agent: {command: a, env: {A: y}}", "changed"),
    "agent.user": ("agent: {command: a}", "agent: {command: a, user: root}", "agent -> root"),
    "agent.note": ("agent: {command: a}", "agent: {command: a, note: false}", "true -> false"),
    "agent.keep": ("agent: {command: a}", "agent: {command: a, keep: true}", "false -> true"),
    "machine.cpus": ("machine: {cpus: 1}", "machine: {cpus: 2}", "1 -> 2"),
    "machine.memory": ("machine: {memory: 2GiB}", "machine: {memory: 2560MiB}", "2GiB -> 2560MiB"),
    "machine.disk": ("machine: {disk: 20GiB}", "machine: {disk: 30GiB}", "20GiB -> 30GiB"),
    "machine.idle": ("machine: {idle: 8h}", "machine: {idle: {after: 90m, do: pause}}", "8h -> 1h30m, then pause"),
    "machine.network_rate": ("", "machine: {network_rate: 10MiB/s}", "no limit -> 10MiB/s"),
    "machine.cpu_weight": ("", "machine: {cpu_weight: 50}", "100 -> 50"),
    "packages": ("packages: [jq, curl]", "packages: [curl, ripgrep]", "- jq"),
    "setup": ("setup: [one, two]", "setup: [one, three]", "two -> three"),
    "mounts": ("mounts: [.:/workspace]", "mounts: [.:/workspace:ro]", "rw -> ro"),
    "endpoints": ("", "endpoints: [api.example.com]", "+ api.example.com"),
    "secrets": ("secrets: {a: {env: A}}", "secrets: {a: {env: B}}", "A -> B"),
    "services": (SERVICE + "}}", SERVICE + ", user: me}}", "added: me"),
    "volumes": ("volumes: {data: {}}", "volumes: {data: {}, more: }", "added"),
    "networks": ("networks: {inner: {}}", "networks: {inner: {internal: true}}", "added: true"),
    "configs": ("configs: {a: {content: x}}", "configs: {a: {content: y}}", "x -> y"),
    "ports": ("ports: ['3000:80']", "ports: ['3001:80']", "- 3000:80"),
}


def test_every_compared_field_has_an_example() -> None:
    assert set(PAIRS) == {path for path, kind in FIELDS.items() if kind is not None}


@pytest.mark.parametrize("field", PAIRS)
def test_a_changed_field_is_found_and_nothing_else(field: str) -> None:
    before, now, what = PAIRS[field]
    if field == "name":
        old, new = configuration(), configuration()
        new = dataclasses.replace(new, sandbox={**new.sandbox, "name": "other"})
        changes = compare(old, new)
    else:
        changes = compare(configuration(before + "\n"), configuration(now + "\n"))
    assert changes and changes[0].what == what
    kind = FIELDS[field]
    assert {change.part for change in changes} == {None if kind == NEW else kind}
    assert {change.how for change in changes} == {"new machine" if kind == NEW else "live"}
    section = field.split(".")[0]
    assert all(change.path.startswith(section) for change in changes)
    assert needs_new_machine(changes) == (kind == NEW)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("endpoints: [npm]", "# a word\nendpoints:\n  - {group: npm}"),
        ("ports: [80]", "ports: [{guest: 80}]"),
        ("machine: {memory: 2GiB}", "machine: {memory: 2048MiB, cpus: 2}"),
        ("setup: [npm ci]", "setup: [{run: npm ci, user: agent}]"),
        ("packages: [jq, curl]", "packages: [curl, jq]"),  # one apt run, whatever the order
        ("agent: {command: 'sh -c x'}", "agent: {command: [sh, -c, x], env: {}}"),
        ("services: {a: {image: a}, b: {image: b}}", "services: {b: {image: b}, a: {image: a}}"),
    ],
)
def test_what_means_the_same_is_no_change(before: str, now: str) -> None:
    assert found(before, now) == []


def test_lists_say_what_came_and_went() -> None:
    before = "endpoints: [npm, a.example.com, {host: b.example.com, port: 8443}]"
    now = "endpoints: [a.example.com, {host: '*.bad.example.com', deny: true}, {host: b.example.com, methods: [GET]}]"
    assert found(before, now) == [
        ("endpoints", "live", "- npm"),
        ("endpoints", "live", "- b.example.com:8443"),
        ("endpoints", "live", "+ *.bad.example.com deny"),
        ("endpoints", "live", "+ b.example.com methods=GET"),
    ]
    assert found("endpoints: [npm, a.example.com]", "endpoints: [a.example.com, npm]") == [
        ("endpoints", "live", "another order")
    ]
    assert found("setup: [a]", "setup: [a, {run: b, user: root, env: {X: y}}]") == [
        ("setup", "new machine", "+ b env=X: ... user=root")
    ]
    assert found("mounts: [.:/w]", "mounts: [.:/w, ./d:/d:ro]") == [("mounts", "new machine", "+ ./d:/d mode=ro")]
    assert found("mounts: [.:/w]", "mounts: [.:/w, {source: ., target: /x, protect: false}]")[0][2].endswith(
        "protect=false"
    )
    assert found("ports: [80]", "ports: [80, '90:91']") == [("ports", "live", "+ 90:91")]


def test_services_are_compared_as_deep_as_they_are() -> None:
    before = "services: {a: {image: a, environment: {X: '1', Y: '2'}, command: [x, y]}, b: {image: b}}"
    now = "services: {a: {image: a, environment: {X: '3'}, command: [x, z], ports: ['1:2']}, c: {image: c}}"
    assert found(before, now) == [
        ("services.a.environment.X", "live", "changed"),
        ("services.a.environment.Y", "live", "removed"),
        ("services.a.command", "live", "- y"),
        ("services.a.command", "live", "+ z"),
        ("services.a.ports", "live", "added"),
        ("services.c", "live", "added"),
        ("services.b", "live", "removed"),
    ]


def test_values_that_look_like_credentials_are_not_printed() -> None:
    before = "services: {a: {image: a, environment: {API_TOKEN: old}}, b: {image: b, environment: [DB_PASSWORD=one]}}"
    now = "services: {a: {image: a, environment: {API_TOKEN: new}}, b: {image: b, environment: [DB_PASSWORD=two]}}"
    assert found(before, now) == [
        ("services.a.environment.API_TOKEN", "live", "changed"),
        ("services.b.environment", "live", "- DB_PASSWORD=..."),
        ("services.b.environment", "live", "+ DB_PASSWORD=..."),
    ]


def test_nor_are_those_of_a_step_that_comes() -> None:
    assert found("", "setup: [{run: x, env: {NPM_TOKEN: abc, A: b}}]") == [
        ("setup", "new machine", "+ x env=NPM_TOKEN: ..., A: ...")
    ]


def test_a_section_that_an_older_record_has_not() -> None:
    old, new = configuration(), configuration("endpoints: [a.b]")
    without = dataclasses.replace(
        old, sandbox={k: v for k, v in old.sandbox.items() if k not in ("endpoints", "secrets")}
    )
    assert compare(without, old) == ()
    assert [change.what for change in compare(without, new)] == ["+ a.b"]


def test_a_key_of_endpoints_that_an_older_record_has_not() -> None:
    before, now = configuration("endpoints: [npm, a.example.com]"), configuration("endpoints: [npm, a.example.com]")
    sandbox = copy.deepcopy(before.sandbox)
    for item in sandbox["endpoints"]:
        del item["github"], item["access"]
    assert list(compare(dataclasses.replace(before, sandbox=sandbox), now)) == []


def test_an_endpoint_with_a_preset_is_named_by_it() -> None:
    now = "endpoints: [{github: [acme/shop, acme/web], access: [read, issues], push: [agent/*]}]"
    assert found("", now) == [("endpoints", "live", "+ acme/shop acme/web access=read issues push=agent/*")]


def test_an_agent_that_comes_or_goes() -> None:
    assert found("", "agent: {command: sh}") == [("agent", "live", "added")]
    assert found("agent: {command: sh}", "") == [("agent", "live", "removed")]
    assert found("", "agent: {use: codex}") == [("agent", "new machine", "added")]


def test_an_endpoint_on_a_port_that_the_machine_cannot_reach_needs_another() -> None:
    now = "endpoints: [a.example.com, b.example.com:8443]"
    assert found("", now, without_listener={8443}) == [
        ("endpoints", "live", "+ a.example.com"),
        ("endpoints", "new machine", "+ b.example.com:8443 (a new port needs a new machine)"),
    ]
    assert found("", "endpoints: [npm]", without_listener={4873}) == [
        ("endpoints", "live", "+ npm"),
        ("endpoints", "new machine", "port 4873 (a new port needs a new machine)"),
    ]


def test_content_of_what_services_read() -> None:
    text = "services: {web: {build: ./web}}"
    old = configuration(text, {"services.web.build": "1", "configs.c.file": "1"})
    new = configuration(text, {"services.web.build": "2", "configs.c.file": "1", "configs.d.file": "1"})
    assert compare(old, new) == (Change("services.web.build", "services", "its content changed"),)


def test_the_machine_beneath() -> None:
    old = configuration("setup: [a, b]", setup_1={"run": "b", "inputs package.json": "1" * 32}, image={"recipe": "1"})
    new = configuration("setup: [a, b]", setup_1={"run": "b", "inputs package.json": "2" * 32}, image={"recipe": "2"})
    assert compare(old, new) == (
        Change("image", None, "recipe changed: 1 -> 2"),
        Change("setup[1]", None, "inputs package.json changed"),
    )


def test_what_a_field_says_is_not_said_again_by_the_build() -> None:
    old = configuration("machine: {memory: 2GiB}", booted={"memory": "2147483648", "accelerator": "tcg"})
    new = configuration("machine: {memory: 4GiB}", booted={"memory": "4294967296", "accelerator": "tcg"})
    assert [change.path for change in compare(old, new)] == ["machine.memory"]
    new = configuration("machine: {memory: 2GiB}", booted={"memory": "2147483648", "accelerator": "kvm"})
    assert compare(old, new) == (Change("booted", None, "accelerator changed: tcg -> kvm"),)


def test_another_way_to_build_is_another_machine() -> None:
    old, new = configuration(), configuration()
    build = copy.deepcopy(dict(new.build))
    for id in ("booted", "packages"):
        build[id]["key"] += "-version-2"
    build["packages"]["inputs"]["parent"] = build["booted"]["key"]
    assert compare(old, dataclasses.replace(new, build=build)) == (
        Change("booted", None, "the way it is built changed"),
    )


def test_a_mount_that_leads_elsewhere() -> None:
    old = configuration("mounts: [.:/workspace]")
    new = dataclasses.replace(old, mounts=("/elsewhere",))
    assert compare(old, new) == (Change("mounts[0].source", None, ". -> /elsewhere"),)


def test_an_unfinished_part_is_due_again() -> None:
    assert found("", "", unfinished=("services", "ports")) == [
        ("ports", "live", "the last change of it did not come to its end"),
        ("services", "live", "the last change of it did not come to its end"),
    ]
    assert found("", "ports: [80]", unfinished=("ports",)) == [("ports", "live", "+ 80")]


def test_the_text() -> None:
    changes = (
        Change("endpoints", "endpoints", "+ api.example.com"),
        Change("machine.memory", None, "2GiB -> 4GiB"),
        Change("services.a\x1b[2J", "services", "x -> y\nz"),
    )
    assert render(changes) == (
        "  endpoints       live         + api.example.com\n"
        "  machine.memory  new machine  2GiB -> 4GiB\n"
        "  services.a      live         x -> y z\n"
    )
    assert changes[1].to_json() == {"path": "machine.memory", "how": "new machine", "what": "2GiB -> 4GiB"}


def test_a_limit_is_told_as_a_file_writes_it_and_none_is_none_of_an_older_record() -> None:
    limited = "mounts: [{source: ., target: /w, limit: 5GiB}]"
    assert found("mounts: [.:/w]", limited) == [("mounts[0].limit", "new machine", "added: 5GiB")]
    assert found(limited, limited.replace("5", "6")) == [("mounts[0].limit", "new machine", "5GiB -> 6GiB")]
    older = configuration("mounts: [.:/w]")
    del older.sandbox["mounts"][0]["limit"]
    assert compare(older, configuration("mounts: [.:/w]")) == ()
