"""Proposals for a project in Python.

The machine is for this project alone, so its dependencies are installed as the user's own packages: every `python3`
finds them there, and no live mount hides them.
"""

from __future__ import annotations

import posixpath
import re

from engine.starter.hosts import host_of
from engine.starter.project_tree import Project, table, word, words
from engine.starter.proposals import Findings

_PIP = "pip install --user --break-system-packages"

_INDEX = re.compile(r"\s*(?:-i|--index-url|--extra-index-url)[= ]\s*(\S+)")
_OTHER_FILE = re.compile(r"\s*(?:-r|-c|--requirement|--constraint)[= ]?\s*(\S+)")
_FROM_GIT = re.compile(r"git\+(?:https?|ssh)://[^\s#;]+")
_LOCAL = re.compile(r"\s*(?:-e\s|--editable|\.{1,2}(/|\s*$)|\S+\s*@\s*file:)")


def look(project: Project, found: Findings) -> None:
    """Propose the group pypi, and an installation with the tool that has locked the dependencies."""
    files = project.inputs("uv.lock", "poetry.lock", "requirements.txt", "pyproject.toml")
    if not files:
        return
    found.propose("endpoints", "pypi", f"from {files[0]}")
    data = project.toml("pyproject.toml")
    for url in _indexes(data):
        if host := host_of(url):
            found.propose("endpoints", host, "an index in pyproject.toml")
    if "uv.lock" in files:
        _propose_uv(project, found, data)
    elif "poetry.lock" in files:
        _propose_poetry(project, found)
    elif "requirements.txt" in files:
        _propose_pip(project, found)
    elif words(table(data, "project").get("dependencies")):
        run = f"{_PIP} -e ."
        seen = "from pyproject.toml; the package is an input, too"
        found.propose("setup", {"run": run, "inputs": ["pyproject.toml"]}, seen, active=False)
    found.local.append(".venv")


def _indexes(data: dict[str, object]) -> list[str]:
    urls = []
    for tool, key in (("uv", "index"), ("poetry", "source")):
        entries = table(data, "tool", tool).get(key)
        urls += (
            [word(entry, "url") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        )
    return urls


def _propose_uv(project: Project, found: Findings, data: dict[str, object]) -> None:
    found.propose("setup", f"{_PIP} uv", "from uv.lock")
    whole = not table(data, "tool", "uv", "workspace")
    step = {
        "run": "~/.local/bin/uv sync --frozen --no-install-project",
        "inputs": project.inputs("pyproject.toml", "uv.lock"),
        "env": {"UV_PROJECT_ENVIRONMENT": "/home/agent/.venv"},
    }
    seen = "from uv.lock" if whole else "from uv.lock; its workspace is an input, too"
    found.propose("setup", step, seen, active=whole)


def _propose_poetry(project: Project, found: Findings) -> None:
    found.propose("setup", f"{_PIP} poetry", "from poetry.lock")
    run = "~/.local/bin/poetry install --no-root --no-interaction"
    found.propose("setup", {"run": run, "inputs": project.inputs("pyproject.toml", "poetry.lock")}, "from poetry.lock")


def _propose_pip(project: Project, found: Findings) -> None:
    inputs, complete = ["requirements.txt"], True
    for name in inputs:
        for line in (project.text(name) or "").splitlines():
            if match := _OTHER_FILE.match(line):
                other = posixpath.normpath(posixpath.join(posixpath.dirname(name), match[1]))
                if project.text(other) is None or len(inputs) > 20:
                    complete = False
                elif other not in inputs:
                    inputs.append(other)
            elif (match := _INDEX.match(line)) and (host := host_of(match[1])):
                found.propose("endpoints", host, f"an index in {name}")
            elif _LOCAL.match(line):
                complete = False
            elif (match := _FROM_GIT.search(line)) and (host := host_of(match[0])):
                found.propose("endpoints", host, f"a dependency in {name}")
    run = f"{_PIP} -r requirements.txt"
    seen = "from requirements.txt" if complete else "from requirements.txt; more files are inputs"
    found.propose("setup", {"run": run, "inputs": inputs}, seen, active=complete)
