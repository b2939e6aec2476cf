"""The published JSON schema, generated from the models."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from .model import Sandbox

SCHEMA_FILE = "sandboxfile-1.json"


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # a title that repeats the key tells an editor's user nothing


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of Sandboxfile.yaml, version "1"."""
    schema = Sandbox.model_json_schema(schema_generator=_Generator)
    _tidy(schema)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Sandboxfile.yaml"}
    return head | {key: value for key, value in schema.items() if key != "title"}


def _tidy(node: Any) -> None:
    """Closes mappings whose keys have a pattern, and removes defaults that mean "left out"."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _tidy(child)
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        if "default" in node and node["default"] is None:
            del node["default"]


def render_schema() -> str:
    """The schema as the text of its file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":  # python -m sandboxfile.schema > schemas/sandboxfile-1.json
    import sys

    sys.stdout.write(render_schema())
