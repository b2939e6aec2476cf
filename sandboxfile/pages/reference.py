"""docs/reference.md, generated from the models: `python -m sandboxfile.pages.reference > docs/reference.md`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from sandboxfile.compose.keys import compose_definitions
from sandboxfile.diagnostics import one_of
from sandboxfile.names import SECTIONS as COMPOSE_SECTIONS
from sandboxfile.pages.notes import CHAPTERS, HEAD, NOTES
from sandboxfile.pages.schema import model_schema
from sandboxfile.pages.snippets import SNIPPETS
from sandboxfile.positions import KeyPath
from sandboxfile.sections.agents import SECTIONS as AGENT_SECTIONS
from sandboxfile.writing.notation import Hand

_HIDDEN = set(AGENT_SECTIONS)  # sections of an entry of `agents`, which are the same as those of the file


def render_reference() -> str:
    """The page as Markdown."""
    schema = model_schema()
    sections = schema["properties"]
    parts = [HEAD, _contents(sections), _overview(schema)]
    parts += [_section(name, node, schema) for name, node in sections.items()]
    parts += [f"## {title}\n\n{text.strip()}" for title, text in CHAPTERS.items()]
    parts.append(_service_keys())
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _contents(sections: Iterable[str]) -> str:
    titles = [*sections, *CHAPTERS, "Keys of services"]
    return "\n".join(f"- [{title}](#{_anchor(title)})" for title in titles)


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def _overview(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (f"[`{name}`](#{name})", _words(node), "required" if name in required else "", _meaning(node, schema))
        for name, node in schema["properties"].items()
    ]
    return f"## Sections\n\n{_table(('section', 'value', '', 'meaning'), rows)}"


def _meaning(node: dict[str, Any], schema: dict[str, Any]) -> str:
    """The description of the field, or that of its model if the field has none."""
    return _description(node) or _description(_model_of(node, schema) or {})


def _section(name: str, node: dict[str, Any], schema: dict[str, Any]) -> str:
    model = _model_of(node, schema)
    blocks = [f"## {name}", _meaning(node, schema)]
    if name in NOTES:
        blocks.append(NOTES[name].strip())
    if model is not None:
        blocks += _forms(name, node, model)
        blocks += _parts(model, schema) if name != "agents" else ()
    elif name not in COMPOSE_SECTIONS:
        blocks.append(f"Value: {_words(node)}.")
    blocks.append(f"```yaml\n{SNIPPETS[name]}```")
    return "\n\n".join(filter(None, blocks))


def _forms(name: str, node: dict[str, Any], model: dict[str, Any]) -> Iterator[str]:
    """A sentence about the forms of an entry, and a table of the keys of its long form."""
    forms = model.get("anyOf", [model])
    short = [form for form in forms if "properties" not in form and "description" in form]
    long = next(form for form in (*forms, model) if "properties" in form)
    kind = (
        "A list; each entry" if node.get("type") == "array" else "A mapping of names; each" if _is_named(node) else ""
    )
    hidden = _HIDDEN if name == "agents" else set()
    if short:
        yield f"{kind or 'The value'} is {_lower(_description(short[0]).rstrip('.'))}, or a mapping:"
    elif kind and not hidden:
        yield f"{kind} is a mapping:"
    required = long.get("required", ())
    rows = [
        (f"`{key}`", _words(value), "required" if key in required else _default(value), _description(value))
        for key, value in long["properties"].items()
        if key not in hidden
    ]
    if hidden:
        yield f"{kind} is a mapping with the keys of [`agent`](#agent), and its own of these sections:"
        rows = [
            (f"[`{key}`](#{key})", _words(value), "", _description(value))
            for key, value in long["properties"].items()
            if key in hidden
        ]
        yield _table(("section", "value", "", "meaning"), rows)
        return
    yield _table(("key", "value", "default", "meaning"), rows)


def _parts(model: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """The same for keys of a section whose values are mappings themselves."""
    for form in (*model.get("anyOf", ()), model):
        for key, node in form.get("properties", {}).items():
            if "$ref" in node and (inner := _model_of(node, schema)) is not None:
                yield from (text.replace("The value is", f"`{key}` is", 1) for text in _forms(key, node, inner))


def _lower(text: str) -> str:
    """The text as it is written within a sentence: `a group` for `A group`, but `HOST` for `HOST`."""
    return text if text[1:2].isupper() else f"{text[:1].lower()}{text[1:]}"


def _is_named(node: dict[str, Any]) -> bool:
    return "patternProperties" in node


def _model_of(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    for place in (node, node.get("items", {}), *node.get("patternProperties", {}).values()):
        if "$ref" in place:
            model: dict[str, Any] = schema["$defs"][place["$ref"].rpartition("/")[2]]
            return model
    return None


def _words(node: dict[str, Any]) -> str:
    """The type of a value, in words for people."""
    if "$ref" in node:
        return "mapping"
    if "enum" in node:
        return one_of([f"`{Hand().scalar(word)}`" for word in node["enum"]])
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_words(part) for part in node["anyOf"]))
    kind = node.get("type")
    if kind == "array":
        return f"list of {'entries' if '$ref' in node['items'] else _words(node['items'])}"
    if kind == "object":
        values = [*node.get("patternProperties", {}).values()]
        return "mapping of text" if values and "$ref" not in values[0] else "mapping of names"
    if kind == "integer" and "minimum" in node:
        return f"number, {node['minimum']} to {node['maximum']}"
    names = {"string": "text", "integer": "number", "boolean": "`true` or `false`"}
    if examples := node.get("examples"):
        return f"such as {one_of([f'`{example}`' for example in examples])}"
    return names.get(str(kind), "mapping of names")


def _default(node: dict[str, Any]) -> str:
    return f"`{Hand().scalar(node['default'])}`" if "default" in node else ""


def _description(node: dict[str, Any]) -> str:
    """The description as Markdown. It is plain text, except for parts in backticks."""
    parts = str(node.get("description", "")).split("`")
    parts[::2] = [re.sub(r"([*<>|_\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    rule = ["---"] * len(lines[0])
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def _file(section: str) -> str:
    return SNIPPETS[section] if section == "version" else f'version: "1"\n{SNIPPETS[section]}'


def _key(path: KeyPath) -> str:
    words = [str(segment) for segment in path if not isinstance(segment, int)]
    return words[0] if words[0] == "secrets" else words[-1]


def _service_keys() -> str:
    """A table of the keys of a service, with the descriptions of the Compose library."""
    properties = compose_definitions()["ComposeService"]["properties"]
    rows = [(f"`{key}`", _description(node)) for key, node in sorted(properties.items())]
    text = "The [Compose specification](https://docs.docker.com/reference/compose-file/) describes them in full."
    return f"## Keys of services\n\n{text}\n\n{_table(('key', 'meaning'), rows)}"


if __name__ == "__main__":
    import sys

    sys.stdout.write(render_reference())
