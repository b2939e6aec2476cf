"""Splitting a file with `agents` into one document for each sandbox, and checking the sandboxes together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sandboxfile.checks.host_ports import host_ports
from sandboxfile.diagnostics import Problem
from sandboxfile.reading.document import Document, Placed
from sandboxfile.reading.layers import lay_over
from sandboxfile.sections.agents import SECTIONS
from sandboxfile.sections.model import Sandbox

MOST_NAME = 40  # characters of a sandbox's name


def split(document: Document, name: str) -> Iterator[tuple[str, Document]]:
    """(key in `agents`, document of its sandbox) in file order. `name` is the file's name; a sandbox is NAME-KEY."""
    tree = document.tree()
    shared = {key: value for key, value in tree.value.items() if key != "agents"}
    section = tree.value["agents"]
    for key, entry in section.value.items():
        agent = {inner: value for inner, value in entry.value.items() if inner not in SECTIONS}
        own = {inner: value for inner, value in entry.value.items() if inner in SECTIONS}
        own["agent"] = Placed(agent, entry.source, entry.path)
        merged = lay_over(Placed(shared, tree.source, tree.path), Placed(own, entry.source, entry.path))
        merged.value["name"] = Placed(f"{name}-{key}", entry.source, entry.path)
        yield key, Document.of(merged, document.main)


def check_together(members: Mapping[str, tuple[Document, Sandbox]]) -> list[tuple[Document, Problem]]:
    """The problems between the sandboxes of one file: ports of the host that two of them ask for."""
    problems: list[tuple[Document, Problem]] = []
    taken: dict[int, str] = {}
    for key, (document, sandbox) in members.items():
        for path, port in host_ports(sandbox):
            if taken.setdefault(port, key) != key:
                message = f"host port {port} is wanted by the sandboxes of {taken[port]} and {key}"
                hint = "leave the host's port out, or publish it in `ports` of one agent"
                problems.append((document, Problem(path, message, hint)))
    return problems


def name_problems(data: Mapping[str, Any], name: str) -> list[Problem]:
    """A problem for each sandbox whose name would be too long."""
    return [
        Problem(("agents", key), f"its sandbox's name, {name}-{key}, is longer than {MOST_NAME} characters", None, True)
        for key in data.get("agents", ())
        if len(f"{name}-{key}") > MOST_NAME
    ]
