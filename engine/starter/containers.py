"""Proposals from the Compose files and Dockerfiles of a project."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable
from typing import Any

from engine.starter.conversion import in_words_of_any_file
from engine.starter.including import include_problems, note_variables
from engine.starter.programs import propose_fetching
from engine.starter.project_tree import Project, table, word
from engine.starter.proposals import Findings
from sandboxfile.compose.images import image_endpoints
from sandboxfile.reading.source import Source, read_source

COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
INCLUDE = ("services", "include")

_FROM = re.compile(r"(?im)^[ \t]*FROM[ \t]+(?:--platform=\S+[ \t]+)?(\S+)(?:[ \t]+AS[ \t]+(\S+))?")
_SYNTAX = re.compile(r"(?im)\A(?:[ \t]*#[^\n]*\n)*?[ \t]*#[ \t]*syntax[ \t]*=[ \t]*(\S+)")
_COPIED = re.compile(r"(?im)^[ \t]*(?:COPY|ADD)[ \t][^\n]{0,300}?--from=(\S+)")
_MOUNTED = re.compile(r"(?im)--mount=(?:[^\s,]+,)*from=([^\s,]+)")
_CONTEXT = "docker-image://"
_ARG = re.compile(r"(?m)^[ \t]*ARG[ \t]+([A-Za-z_]\w{0,99})=[\"']?([^\s\"']{1,200})")
_OPEN_TAG = re.compile(r":(?=[^/]{0,300}\$)[^/]{0,300}$")
_DEFAULT = re.compile(r"\$\{[A-Za-z_]\w{0,99}:?-([^${}]{0,200})\}")


def look(project: Project, found: Findings) -> None:
    """Propose the services of a Compose file, included as they are, and endpoints for their images."""
    name = project.first(*COMPOSE_FILES)
    if name is not None:
        source = read_source(project.text(name) or "", name, compose=True)
        if source.readable and not source.problems and table(source.data, "services"):
            sources = [source, *_override(project, name)]
            names = [each.file for each in sources]
            include = names if len(names) > 1 else name
            found.propose(INCLUDE, include, _services([each.data for each in sources]))
            include_problems(found, include, project.root / "Sandboxfile.yaml")
            note_variables(found, name)
            for each in sources:
                propose_images(project, found, each, posixpath.dirname(name))
        else:
            problems = in_words_of_any_file(source.problems)
            reason = problems[0].message if problems else "it has no services"
            found.note(f"{name} was not taken over: {reason}")
    elif project.text("Dockerfile") is not None:
        found.propose(("services", "app"), {"build": "."}, "from Dockerfile", active=False)


def _override(project: Project, name: str) -> list[Source]:
    """The file that Compose lays over `name` by itself, if there is one that can be read."""
    stem = name.rpartition(".")[0]
    other = project.first(f"{stem}.override.yml", f"{stem}.override.yaml")
    if other is None:
        return []
    source = read_source(project.text(other) or "", other)
    return [source] if source.readable and isinstance(source.data, dict) else []


def propose_images(
    project: Project, found: Findings, source: Source, directory: str, without: Collection[str] = ()
) -> None:
    """Propose endpoints for the images that services, except `without`, use or are built from.

    The Compose file is in `directory`.
    """
    for service, entry in table(source.data, "services").items():
        if service in without:
            continue
        build = entry.get("build") if isinstance(entry, dict) else None
        if build is None:
            _propose_image(found, word(entry, "image"), f"image of {service} in {source.file}")
            continue
        context = build if isinstance(build, str) else word(build, "context") or "."
        dockerfile = word(build, "dockerfile") or "Dockerfile"
        path = posixpath.normpath(posixpath.join(directory, context, dockerfile))
        contexts = _contexts(build)
        for image in contexts.values():
            if image.startswith(_CONTEXT):
                _propose_image(found, image.removeprefix(_CONTEXT), f"a context of {service} in {source.file}")
        propose_bases(project, found, path, contexts)


def _contexts(build: Any) -> dict[str, str]:
    """The further contexts of a build by their names."""
    further = build.get("additional_contexts") if isinstance(build, dict) else None
    if isinstance(further, dict):
        return {str(name): str(path) for name, path in further.items()}
    pairs = (str(entry).partition("=") for entry in further) if isinstance(further, list) else ()
    return {name: path for name, _, path in pairs}


def propose_bases(project: Project, found: Findings, path: str, contexts: Iterable[str] = ()) -> None:
    """Propose endpoints for the images that the Dockerfile at `path` begins with, copies from, or is read by, and for
    what its steps fetch."""
    text = project.text(path) or ""
    propose_fetching(found, text, path)
    arguments = dict(_ARG.findall(text.partition("\nFROM")[0]))
    if match := _SYNTAX.match(text):
        _propose_image(found, match[1], f"syntax in {path}")
    stages = set()
    for image, stage in _FROM.findall(text):
        if image.lower() not in stages:
            named = re.sub(r"\$\{?([A-Za-z_]\w{0,99})\}?", lambda match: arguments.get(match[1], match[0]), image)
            _propose_image(found, named, f"FROM in {path}")
        stages.add(stage.lower())
    for image in [*_COPIED.findall(text), *_MOUNTED.findall(text)]:
        if image.lower() not in stages and not image.isdigit() and "$" not in image and image not in contexts:
            _propose_image(found, image, f"from in {path}")


def _propose_image(found: Findings, image: str, seen: str) -> None:
    image = with_defaults(image)
    image = _OPEN_TAG.sub("", image)  # whatever its value is, the image is at the same registry
    if "$" in image:
        found.note(f"{seen} has a variable for its registry: add the registry to endpoints")
    for endpoint in image_endpoints(image):
        found.propose("endpoints", endpoint, seen, part="services")


def with_defaults(text: str) -> str:
    """The text with each variable that has a default replaced by that."""
    return _DEFAULT.sub(r"\1", text)


def _services(documents: list[Any]) -> str:
    """A remark that names the services and the ports that they publish."""
    names = list(dict.fromkeys(name for data in documents for name in table(data, "services")))
    ports = [
        str(entry.get("published") if isinstance(entry, dict) else entry)
        for data in documents
        for service in table(data, "services").values()
        for entry in _list(service, "ports")
        if isinstance(entry, (dict, str, int))
    ]
    return ", ".join(names) + (f"; their ports are on this host, too: {', '.join(ports)}" if ports else "")


def _list(service: Any, key: str) -> list[Any]:
    value = service.get(key) if isinstance(service, dict) else None
    return value if isinstance(value, list) else []
