"""Checking the Compose sections with a library for the Compose specification.

In many places the library is stricter than Compose. `dialect.py` hides from it the values that Compose is known to
accept, and those that our own checks judge. In the guest, `docker compose config` has the last word.
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
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sandboxfile.compose.agreement import check_agreement
from sandboxfile.compose.dialect import BESIDE_SOURCES, CONFIG_SOURCES, check_service, soften
from sandboxfile.compose.foreign_paths import paths_of_windows
from sandboxfile.compose.images import check_image
from sandboxfile.compose.published import MOST_PORTS, parse_ports
from sandboxfile.diagnostics import Problem, did_you_mean, quote
from sandboxfile.names import SECTIONS
from sandboxfile.positions import KeyPath
from sandboxfile.windows import windows_path

if TYPE_CHECKING:
    from sandboxfile.compose.blame import Check


_NATIVE = "compose_spec.compose_spec"  # the extension module with the parser
_PLACE = r" at line \d+ column \d+$"


def check_compose(data: dict[str, Any]) -> list[Problem]:
    """All problems of the Compose sections in the plain data of a file.

    The data may have any shape. Whatever is no mapping of mappings is left out here: the model reports it.
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
    from sandboxfile.compose.blame import find_blame  # here, since only a file with errors needs it

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
    native = sys.modules.get(_NATIVE) or _load_without_package() or importlib.import_module(_NATIVE)
    return native.PyCompose.from_json  # type: ignore[no-any-return]


def _load_without_package() -> ModuleType | None:
    """Load the library's parser, an extension module, without the package that contains it; None where that fails.

    An ordinary import would run the package first. That takes 0.1 s of a command's start, for 1600 lines of models that
    only messages need.
    """
    package = importlib.util.find_spec("compose_spec")
    if package is None or "compose_spec" in sys.modules:
        return None
    spec = PathFinder.find_spec(_NATIVE, package.submodule_search_locations)
    if spec is None or spec.loader is None:
        return None
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    sys.modules[_NATIVE] = native
    return native


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
    for place, written in paths_of_windows(service):
        problem, hint = windows_path(written) or ("", "")
        problems.append(Problem((*path, *place), f"{problem}: {quote(written)}", hint))
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
    """A problem for each unknown key of a config: the library would only report that the source is missing."""
    known = (*CONFIG_SOURCES, *BESIDE_SOURCES)
    for key in config:
        if key not in known and not key.startswith("x-"):
            yield Problem(("configs", name, key), "unknown key", did_you_mean(key, known), at_key=True)
