"""What is remembered of the last build. The next plan uses it to say what has changed since."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from engine.errors import EngineError
from engine.files import read_json, write_json
from engine.plan.graph import Graph
from engine.secrets.secrecy import masked_inputs


class Made(TypedDict):
    """What is remembered of a node that was built: enough to say what has changed since."""

    key: str
    inputs: dict[str, str]


def load_made(path: Path) -> dict[str, Made]:
    """What `save_made` wrote. Empty when the file is missing or damaged: the plan then cannot explain what changed."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        nodes = read_json(path)["nodes"]
        # Older versions wrote private values into this file.
        return {id: Made(key=str(made["key"]), inputs=masked_inputs(made["inputs"])) for id, made in nodes.items()}
    return {}


def save_made(path: Path, graph: Graph, done: Iterable[str], project: Path | None = None) -> None:
    """Remember the nodes in `done` as they are in `graph`, built for `project`; what is known of other nodes stays.

    Raises EngineError.
    """
    known: dict[str, Made] = {id: made for id, made in load_made(path).items() if id in graph.nodes}
    for id in done:
        known[id] = Made(key=graph.nodes[id].key, inputs=dict(graph.nodes[id].inputs))
    try:
        write_json(path, {"version": 1, "project": str(project) if project else None, "nodes": known})
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}") from error
