"""The published schema in the hands of others: a second validator, and editors that look for keys and their meaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from sandboxfile import parse
from sandboxfile.compose.judge import check_compose
from sandboxfile.names import SECTIONS
from sandboxfile.pages.schema import SCHEMA_ID, json_schema
from sandboxfile.pages.snippets import SNIPPETS, example
from sandboxfile.reading.source import read_source

HERE = Path(__file__).parent
BAD = sorted((HERE / "bad").glob("*.yaml"))
GOOD = sorted((HERE / "good").glob("*.yaml"))
BEYOND_THE_SCHEMA = set((HERE / "beyond_the_schema.txt").read_text().split())
SCHEMA = json_schema()
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)

Keys = tuple[str, ...]


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """The node with what it refers to, as editors merge them: what is written beside the reference wins."""
    while "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        node = {**SCHEMA["$defs"][name], **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def keys(node: Any, path: Keys = (), depth: int = 0) -> Iterator[tuple[Keys, dict[str, Any]]]:
    """(path, schema) of every key that an editor can offer; `*` is any name, `[]` any item."""
    assert depth < 40, f"{path} has no end"
    node = resolve(node)
    for name, child in node.get("properties", {}).items():
        yield (*path, name), resolve(child)
        yield from keys(child, (*path, name), depth + 1)
    for name, children in (
        ("*", node.get("patternProperties", {}).values()),
        ("*", [node.get("additionalProperties")]),
    ):
        for child in children:
            if isinstance(child, dict):
                yield from keys(child, (*path, name), depth + 1)
    if isinstance(node.get("items"), dict):
        yield from keys(node["items"], (*path, "[]"), depth + 1)
    for keyword in ("anyOf", "oneOf", "allOf"):
        for child in node.get(keyword, ()):
            yield from keys(child, path, depth + 1)


OFFERED = dict(keys(SCHEMA))


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_second_validator_accepts_good_file(file: Path) -> None:
    VALIDATOR.validate(read_source(file.read_bytes(), file.name).data)


def test_second_validator_refuses_bad_files_unless_the_rule_is_beyond_the_schema() -> None:
    accepted = set()
    for file in BAD:
        source = read_source(file.read_bytes(), file.name)
        if not source.problems and VALIDATOR.is_valid(source.data):
            accepted.add(file.stem)
    assert accepted == BEYOND_THE_SCHEMA


def test_every_key_that_can_be_reached_is_described() -> None:
    assert len(OFFERED) > 300
    assert [path for path, node in OFFERED.items() if not node.get("description", "").endswith((".", "?"))] == []


@pytest.mark.parametrize(
    "path",
    [
        "agent.env", "agents.*.endpoints.[].host", "machine.idle", "setup.[].inputs", "mounts.[].hide",
        "endpoints.[].methods", "secrets.*.env", "ports.[].guest", "services.include",
        "services.*.image", "services.*.healthcheck.start_interval", "services.*.build.dockerfile",
        "services.*.deploy.resources.limits.memory", "services.*.depends_on.*.condition",
        "services.*.ports.[].published", "services.*.volumes.[].bind.create_host_path", "services.*.networks.*.aliases",
        "services.*.env_file.[].required", "services.*.logging.driver", "services.*.ulimits.*.soft",
        "volumes.*.driver_opts", "networks.*.ipam.config.[].subnet", "configs.*.content",
    ],
)  # fmt: skip
def test_an_editor_finds(path: str) -> None:
    assert tuple(path.split(".")) in OFFERED


def test_no_key_is_offered_that_is_refused() -> None:
    def refused(path: Keys) -> bool:
        value: Any = {"x": 1}
        for key in reversed(path):
            value = [value] if key == "[]" else {"n" if key == "*" else key: value}
        place = tuple(0 if key == "[]" else "n" if key == "*" else key for key in path)
        words = ("unknown key", "not supported", "cannot be given")
        return any(p.path == place and any(word in p.message for word in words) for p in check_compose(value))

    offered = [path for path in OFFERED if path[0] in SECTIONS and "*" in path]
    assert [path for path in offered if refused(path)] == []
    assert refused(("services", "*", "imgae")) and refused(("services", "*", "secrets"))


def test_the_compose_part_only_explains() -> None:
    """What it says to a validator is nothing: compose.py judges."""
    silent = {"description", "markdownDescription", "examples", "$ref", "properties", "items", "additionalProperties"}

    def loud(node: Any) -> set[str]:
        if not isinstance(node, dict):
            return set()
        found = set(node) - silent
        for keyword in ("items", "additionalProperties"):
            assert isinstance(node.get(keyword, {}), dict)
            found |= loud(node.get(keyword))
        return found.union(*(loud(child) for child in node.get("properties", {}).values()))

    definitions = {name: node for name, node in SCHEMA["$defs"].items() if name.startswith("Compose")}
    assert {name: loud(node) for name, node in definitions.items() if loud(node)} == {}


def test_editors_are_offered_examples_that_are_valid() -> None:
    for section in SNIPPETS:
        offered = SCHEMA["properties"][section]["examples"]
        assert offered == [example(section)]
        VALIDATOR.validate({"version": "1", section: offered[0]})


@pytest.mark.parametrize("section", SNIPPETS)
def test_snippets_are_valid_files(section: str) -> None:
    head = "" if section == "version" else 'version: "1"\n'
    loaded = parse(head + SNIPPETS[section], Path("/project/Sandboxfile.yaml"))
    assert loaded.warnings == () or section in ("secrets", "services", "networks", "configs", "volumes")


def test_it_has_a_name_of_its_own() -> None:
    assert SCHEMA["$id"] == SCHEMA_ID and SCHEMA_ID.endswith(":1")
