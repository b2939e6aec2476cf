"""Proposals from the Compose files and Dockerfiles of a project."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from engine.starter.including import include_problems, note_variables
from engine.starter.programs import propose_fetching
from engine.starter.project_tree import Project, table, word
from engine.starter.proposals import Findings
from sandboxfile.compose.images import DOCKER_HUB, image_hosts
from sandboxfile.reading.source import Source, read_source

COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
DEV_CONTAINERS = (".devcontainer/devcontainer.json", ".devcontainer.json")
INCLUDE = ("services", "include")

_FROM = re.compile(r"(?im)^[ \t]*FROM[ \t]+(?:--platform=\S+[ \t]+)?(\S+)(?:[ \t]+AS[ \t]+(\S+))?")
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
            reason = source.problems[0].message if source.problems else "it has no services"
            found.note(f"{name} was not taken over: {reason}")
    elif project.text("Dockerfile") is not None:
        found.propose(("services", "app"), {"build": "."}, "from Dockerfile", active=False)
    if (dev := project.first(*DEV_CONTAINERS)) is not None:
        found.note(f"{dev} was not looked at: `sandbox init --from {dev}` converts it")


def _override(project: Project, name: str) -> list[Source]:
    """The file that Compose lays over `name` by itself, if there is one that can be read."""
    stem = name.rpartition(".")[0]
    other = project.first(f"{stem}.override.yml", f"{stem}.override.yaml")
    if other is None:
        return []
    source = read_source(project.text(other) or "", other)
    return [source] if source.readable and isinstance(source.data, dict) else []


def propose_images(project: Project, found: Findings, source: Source, directory: str, without: str = "") -> None:
    """Propose endpoints for the images that services, except `without`, use or are built from.

    The Compose file is in `directory`.
    """
    for service, entry in table(source.data, "services").items():
        if service == without:
            continue
        build = entry.get("build") if isinstance(entry, dict) else None
        if build is None:
            _propose_image(found, word(entry, "image"), f"image of {service} in {source.file}")
            continue
        context = build if isinstance(build, str) else word(build, "context") or "."
        dockerfile = word(build, "dockerfile") or "Dockerfile"
        path = posixpath.normpath(posixpath.join(directory, context, dockerfile))
        propose_bases(project, found, path)


def propose_bases(project: Project, found: Findings, path: str) -> None:
    """Propose endpoints for the images that the Dockerfile at `path` begins with, and for what its steps fetch."""
    text = project.text(path) or ""
    propose_fetching(found, text, path)
    arguments = dict(_ARG.findall(text.partition("\nFROM")[0]))
    stages = set()
    for image, stage in _FROM.findall(text):
        if image not in stages:
            named = re.sub(r"\$\{?([A-Za-z_]\w{0,99})\}?", lambda match: arguments.get(match[1], match[0]), image)
            _propose_image(found, named, f"FROM in {path}")
        stages.add(stage)


def _propose_image(found: Findings, image: str, seen: str) -> None:
    image = with_defaults(image)
    image = _OPEN_TAG.sub("", image)  # whatever its value is, the image is at the same registry
    if "$" in image:
        found.note(f"{seen} has a variable for its registry: add the registry to endpoints")
    for host in image_hosts(image):
        remark = f"Docker Hub: {seen}" if host in DOCKER_HUB else seen
        found.propose("endpoints", host, remark, part="services")


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
