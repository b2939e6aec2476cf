"""Proposals from the Compose files and Dockerfiles of a project."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from engine.starter.project_tree import Project, table, word
from engine.starter.proposals import Findings
from sandboxfile.compose.images import DOCKER_HUB, image_hosts
from sandboxfile.reading.source import Source, read_source

COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
DEV_CONTAINERS = (".devcontainer/devcontainer.json", ".devcontainer.json")

_FROM = re.compile(r"(?im)^[ \t]*FROM[ \t]+(?:--platform=\S+[ \t]+)?(\S+)(?:[ \t]+AS[ \t]+(\S+))?")


def look(project: Project, found: Findings) -> None:
    """Propose the services of a Compose file, included as they are, and endpoints for their images."""
    name = project.first(*COMPOSE_FILES)
    if name is not None:
        source = read_source(project.text(name) or "", name, compose=True)
        if source.readable and not source.problems and table(source.data, "services"):
            found.propose(("services", "include"), name, _services(source.data))
            propose_images(project, found, source, posixpath.dirname(name))
        else:
            reason = source.problems[0].message if source.problems else "it has no services"
            found.note(f"{name} was not taken over: {reason}")
    elif project.text("Dockerfile") is not None:
        found.propose(("services", "app"), {"build": "."}, "from Dockerfile", active=False)
    if (dev := project.first(*DEV_CONTAINERS)) is not None:
        found.note(f"{dev} was not looked at: `sandbox init --from {dev}` converts it")


def propose_images(project: Project, found: Findings, source: Source, directory: str) -> None:
    """Propose endpoints for the images that services use or are built from. The Compose file is in `directory`."""
    for service, entry in table(source.data, "services").items():
        build = entry.get("build") if isinstance(entry, dict) else None
        if build is None:
            _propose_image(found, word(entry, "image"), f"image of {service} in {source.file}")
            continue
        context = build if isinstance(build, str) else word(build, "context") or "."
        dockerfile = word(build, "dockerfile") or "Dockerfile"
        path = posixpath.normpath(posixpath.join(directory, context, dockerfile))
        stages = set()
        for image, stage in _FROM.findall(project.text(path) or ""):
            if image not in stages:
                _propose_image(found, image, f"FROM in {path}")
            stages.add(stage)


def _propose_image(found: Findings, image: str, seen: str) -> None:
    for host in image_hosts(image):
        remark = f"Docker Hub: {seen}" if host in DOCKER_HUB else seen
        found.propose("endpoints", host, remark, part="services")


def _services(data: Any) -> str:
    """A remark that names the services and the ports that they publish."""
    names = list(table(data, "services"))
    ports = [
        str(entry.get("published") if isinstance(entry, dict) else entry)
        for service in table(data, "services").values()
        for entry in (service.get("ports") if isinstance(service, dict) else None) or ()
        if isinstance(entry, (dict, str, int))
    ]
    return ", ".join(names) + (f"; their ports are on this host, too: {', '.join(ports)}" if ports else "")
