"""The published JSON schema, generated from the models."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from sandboxfile.compose.keys import compose_definitions, reference_to
from sandboxfile.pages.snippets import SNIPPETS, example
from sandboxfile.sections.model import Sandbox

SCHEMA_FILE = "sandboxfile-1.json"
# A name, and no address from which the schema could be fetched. A new version of the format gets a new name.
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
    """The schema that follows from the models alone: without the additions for editors, and for `${NAME}` in values."""
    schema = Sandbox.model_json_schema(schema_generator=_Generator)
    _tidy(schema)
    return schema


def _tidy(node: Any) -> None:
    """Close mappings whose keys have a pattern, and remove empty defaults, which editors would insert."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _tidy(child)
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        if "default" in node and node["default"] in (None, []):
            del node["default"]


# Values in which variables are not replaced: commands for the guest, `version`, and the sources of secrets.
_LITERAL = {("Agent", "command"), ("Agent", "args"), ("AgentSandbox", "command"), ("AgentSandbox", "args")}
_LITERAL |= {("SetupStep", "run"), ("Sandbox", "version"), ("Sandbox", "secrets"), ("Sandbox", "agents")}
_VARIABLE = r"\$"


def _allow_variables(schema: dict[str, Any]) -> None:
    """Allow a text with a dollar sign in the place of every value in which variables are replaced."""
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
    """Add the keys of services, volumes and so on, for completion and hover text. Other keys stay allowed."""
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
    """Repeat each description with Markdown in it for editors that show Markdown."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _mark_up(child)
    if isinstance(node, dict) and isinstance(text := node.get("description"), str) and "`" in text:
        node["markdownDescription"] = text


def render_schema() -> str:
    """The schema as the text of its file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":  # python -m sandboxfile.pages.schema > schemas/sandboxfile-1.json
    import sys

    sys.stdout.write(render_schema())
