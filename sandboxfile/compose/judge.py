"""The Compose sections, judged by a library of the Compose specification.

The library is stricter than Compose in many places (`dialect.py` has them); what our own checks judge, or what Compose
is known to take, it never sees. The last word has `docker compose config` in the guest.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from sandboxfile.compose.agreement import check_agreement
from sandboxfile.compose.dialect import BESIDE_SOURCES, CONFIG_SOURCES, check_service, soften
from sandboxfile.compose.images import check_image
from sandboxfile.compose.published import MOST_PORTS, parse_ports
from sandboxfile.diagnostics import Problem, did_you_mean
from sandboxfile.names import SECTIONS
from sandboxfile.positions import KeyPath

if TYPE_CHECKING:
    from sandboxfile.compose.blame import Check


_PLACE = r" at line \d+ column \d+$"


def check_compose(data: dict[str, Any]) -> list[Problem]:
    """All problems of the Compose sections of the file's plain data.

    Expects nothing of the data's shape: what is no mapping of mappings is the model's to report and is left out here.
    """
    document = {}
    for section in SECTIONS:
        if isinstance(entries := data.get(section), dict):
            document[section] = {name: entry for name, entry in entries.items() if isinstance(entry, dict)}
    services = document.get("services", {})
    problems = [problem for name, service in services.items() for problem in _own_checks(name, service)]
    problems += _port_checks(services)
    problems += check_agreement(services)
    problems += [
        problem for name, config in document.get("configs", {}).items() for problem in _config_checks(name, config)
    ]
    if not any(document.values()):
        return problems
    document = {"services": {}} | {
        section: {name: soften(section, entry) for name, entry in entries.items()}
        for section, entries in document.items()
    }
    check = _judge()
    if check(document) is None:
        return problems
    from sandboxfile.compose.blame import find_blame  # only a wrong file needs it

    return problems + find_blame(document, check)


@cache
def _judge() -> Check:
    parse = _native_parser()

    def check(document: dict[str, Any]) -> str | None:
        try:
            parse(json.dumps(document))
        except ValueError as error:
            return re.sub(_PLACE, "", str(error))
        return None

    return check


def _native_parser() -> Callable[[str], object]:
    """The library's parser. Its package also builds 1600 lines of models, which takes 0.1 s of a command's start and
    which only messages need; so the extension module is loaded alone, and through the package where that fails."""
    name = "compose_spec.compose_spec"
    package = importlib.util.find_spec("compose_spec")
    if "compose_spec" not in sys.modules and name not in sys.modules and package is not None:
        spec = PathFinder.find_spec(name, package.submodule_search_locations)
        if spec is not None and spec.loader is not None:
            native = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(native)
            sys.modules[name] = native
    native = sys.modules.get(name) or importlib.import_module(name)
    return native.PyCompose.from_json  # type: ignore[no-any-return]


def _own_checks(name: str, service: dict[str, Any]) -> list[Problem]:
    path: KeyPath = ("services", name)
    problems = []
    if service.get("image") is None and service.get("build") is None and "extends" not in service:
        problems.append(Problem(path, "needs an image or a build", "such as image: postgres:17, or build: ./web"))
    image = service.get("image")
    if isinstance(image, str) and (wrong := check_image(image)):
        problems.append(Problem((*path, "image"), *wrong))
    if "secrets" in service:
        message = "secrets cannot be given to a service: no credential enters the machine"
        hint = "name it in an endpoint's `secret`, or use a config for data that is no secret"
        problems.append(Problem((*path, "secrets"), message, hint, at_key=True))
    problems += check_service(name, service)
    return problems


def _port_checks(services: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    count = 0
    for name, service in services.items():
        ports = service.get("ports")
        for index, entry in enumerate(ports if isinstance(ports, list) else ()):
            try:
                count += len(parse_ports(entry))
            except ValueError as error:
                message, _, hint = str(error).partition("; ")
                yield Problem(("services", name, "ports", index), message, hint or None)
            if count > MOST_PORTS:
                yield Problem(("services", name, "ports", index), f"all services publish more than {MOST_PORTS} ports")
                return


def _config_checks(name: str, config: dict[str, Any]) -> Iterator[Problem]:
    """The library takes every other key for the lack of a source."""
    known = (*CONFIG_SOURCES, *BESIDE_SOURCES)
    for key in config:
        if key not in known and not key.startswith("x-"):
            yield Problem(("configs", name, key), "unknown key", did_you_mean(key, known), at_key=True)
