"""The published JSON schema, generated from the models."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from sandboxfile.compose.keys import compose_definitions, reference_to
from sandboxfile.pages.snippets import SNIPPETS, example
from sandboxfile.sections.model import Sandbox

SCHEMA_FILE = "sandboxfile-1.json"
# A name and no place: no address is promised to serve it. A new version of the format gets a new one.
SCHEMA_ID = "urn:sandboxfile:schema:1"


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # a title that repeats the key tells an editor's user nothing


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of Sandboxfile.yaml, version "1"."""
    schema = model_schema()
    _allow_variables(schema)
    _allow_include(schema["properties"]["services"])
    schema["patternProperties"] = {"^x-": {"description": "Anything; a place for anchors, not read otherwise."}}
    _offer_compose_keys(schema)
    _offer_examples(schema)
    _mark_up(schema)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, "title": "Sandboxfile.yaml"}
    return head | {key: value for key, value in schema.items() if key != "title"}


def model_schema() -> dict[str, Any]:
    """The same without what is there for editors, and for values that stand in variables: what the models say."""
    schema = Sandbox.model_json_schema(schema_generator=_Generator)
    _tidy(schema)
    return schema


def _tidy(node: Any) -> None:
    """Closes mappings whose keys have a pattern, and removes defaults that mean "left out", which editors insert."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _tidy(child)
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        if "default" in node and node["default"] in (None, []):
            del node["default"]


# Not interpolated: what the guest's shell reads, and where secrets come from.
_LITERAL = {("Agent", "command"), ("Agent", "args"), ("AgentSandbox", "command"), ("AgentSandbox", "args")}
_LITERAL |= {("SetupStep", "run"), ("Sandbox", "version"), ("Sandbox", "secrets"), ("Sandbox", "agents")}
_VARIABLE = r"\$"


def _allow_variables(schema: dict[str, Any]) -> None:
    """Wherever a value may be `${NAME}`, a text with a dollar sign is as good as any other value."""
    for name, part in {"Sandbox": schema, **schema["$defs"]}.items():
        if name == "Secret":
            continue
        for form in part.get("anyOf", ()):
            if form.get("type") != "object" and name != "SetupStep":
                _allow_variable(form)  # the short form of the part
        for form in (part, *part.get("anyOf", ())):
            for key, value in form.get("properties", {}).items():
                if (name, key) not in _LITERAL:
                    _allow_variable(value)


def _allow_variable(node: dict[str, Any]) -> None:
    kind = node.get("type")
    if "enum" in node:
        node["anyOf"] = [{"type": node.pop("type"), "enum": node.pop("enum")}, {"type": "string", "pattern": _VARIABLE}]
    elif kind in ("integer", "boolean"):
        node |= {"type": [kind, "string"], "pattern": _VARIABLE}
    elif (isinstance(kind, list) or kind == "string") and "pattern" in node:
        node["pattern"] = f"{node['pattern']}|{_VARIABLE}"
    for part in (node.get("items"), node.get("additionalProperties"), *node.get("patternProperties", {}).values()):
        if isinstance(part, dict):
            _allow_variable(part)
    if "enum" not in node and kind is None:
        for part in node.get("anyOf", ()):
            if part.get("pattern") != _VARIABLE:
                _allow_variable(part)


def _allow_include(services: dict[str, Any]) -> None:
    path = {"type": "string", "minLength": 1}
    paths = {
        "description": "The path of a Compose file of the project, or of several that are laid over each other.",
        "anyOf": [path, {"type": "array", "items": path}],
    }
    entry = {"anyOf": [path, {"type": "object", "properties": {"path": paths}}]}
    services["properties"] = {
        "include": {
            "description": "Compose files of the project whose services, volumes, networks and configs are taken over.",
            "anyOf": [*entry["anyOf"], {"type": "array", "items": entry, "minItems": 1}],
        }
    }


def _offer_compose_keys(schema: dict[str, Any]) -> None:
    """What may stand in a service, a volume, ..., for completion and hover text; it stays open for everything else."""
    schema["$defs"] |= compose_definitions()
    for section in ("services", "volumes", "networks", "configs"):
        node = schema["properties"][section]
        optional = "anyOf" in node["additionalProperties"]
        kinds = ["object", "null"] if optional else "object"
        node["additionalProperties"] = {"type": kinds, "$ref": reference_to(section)}


def _offer_examples(schema: dict[str, Any]) -> None:
    for section in SNIPPETS:
        schema["properties"][section].setdefault("examples", [example(section)])


def _mark_up(node: Any) -> None:
    """The same words for editors that show Markdown, where there is any in them."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _mark_up(child)
    if isinstance(node, dict) and isinstance(said := node.get("description"), str) and "`" in said:
        node["markdownDescription"] = said


def render_schema() -> str:
    """The schema as the text of its file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":  # python -m sandboxfile.pages.schema > schemas/sandboxfile-1.json
    import sys

    sys.stdout.write(render_schema())
