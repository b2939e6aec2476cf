"""From a Compose file to a Sandboxfile.

The Compose file is included as it is if all of it can be used. Else its services are copied, except those that cannot
be: such a service is left out as a whole, since half of it would be another service.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from engine.starter.containers import INCLUDE, propose_images, with_defaults
from engine.starter.conversion import Conversion, slug
from engine.starter.including import include_problems, note_variables, problems_with
from engine.starter.project_tree import Project, table, word
from engine.starter.proposals import Findings, LeftOut
from sandboxfile.compose.files import rebase
from sandboxfile.compose.services import volume_entry
from sandboxfile.diagnostics import Diagnostic
from sandboxfile.names import SECTIONS
from sandboxfile.positions import KeyPath, render_path
from sandboxfile.reading.document import has_path

MOST_ROUNDS = 100  # each round removes at least one entry
MOST_REASONS = 3  # for one entry

_NOT_CARRIED = {
    "version": "Compose itself has no use for it any more",
    "secrets": "no credential enters the machine; requests get them from `secrets` and `endpoints` here",
    "include": "only the services of this file were copied",
}
_OUTSIDE = "must be inside the project"


def convert_compose(conversion: Conversion, path: Path) -> None:
    """Add to the findings what the Compose file says. `path` is the path of the Sandboxfile."""
    data, found = conversion.data, conversion.found
    seen = f"from {conversion.source.file}"
    _name(conversion, seen)
    file = conversion.inside(Path(conversion.source.file).name)
    if file is not None and not include_problems(found, file, path):
        found.propose(INCLUDE, file, f"as it is: {', '.join(table(data, 'services'))}")
        note_variables(found, file)
        if "version" in data:
            conversion.leave_out(("version",), _NOT_CARRIED["version"])
        left_out = []
    else:
        found.variables.clear()
        left_out = [name for section, name in _copy(conversion, path, seen) if section == "services"]
        note_variables(found, conversion.source.file)
    for service, entry in table(data, "services").items():
        _note_absolute(conversion, service, entry)
    project = Project(conversion.target, found.note)
    propose_images(project, found, conversion.source, conversion.relative(".").removeprefix("./"), left_out)


def _name(conversion: Conversion, seen: str) -> None:
    name = with_defaults(word(conversion.data, "name"))
    if "$" in name:
        conversion.leave_out(("name",), "its variable has no default")
    elif made := slug(name):
        conversion.found.propose("name", made, f"{seen}: name")


def _copy(conversion: Conversion, path: Path, seen: str) -> list[tuple[str, str]]:
    """Propose the services, and what they use, one by one. An entry with a problem is left out as a whole.

    Returns the entries that are left out, each as its section and its name.
    """
    data = copy.deepcopy(conversion.data)
    if (directory := conversion.relative(".")) != ".":
        rebase(data, directory.removeprefix("./"), conversion.target)
    for key in data:
        if key not in SECTIONS and key != "name":
            anchors = "its anchors are written out where they are used"
            reason = anchors if key.startswith("x-") else "it is not a section that a sandbox can take over"
            conversion.leave_out((key,), _NOT_CARRIED.get(key, reason))
        elif key in SECTIONS and not isinstance(data[key], dict):
            conversion.leave_out((key,), "it is no mapping")
    kept = {key: dict(data[key]) for key in SECTIONS if isinstance(data.get(key), dict)}
    removed: dict[KeyPath, list[Diagnostic]] = {}
    for _ in range(MOST_ROUNDS):
        kept = {key: entries for key, entries in kept.items() if entries}
        problems = problems_with(conversion.found, kept, path)
        if not problems:
            break
        for place, reasons in _to_remove(problems, kept).items():
            removed[place] = reasons
            del kept[str(place[0])][place[1]]
    else:
        removed |= {(key, name): list(problems[:1]) for key, entries in kept.items() for name in entries}
        kept = {}
    for place, reasons in removed.items():
        _leave_out(conversion, place, reasons)
    for section, entry in _unused([data[str(section)][entry] for section, entry in removed], kept):
        del kept[section][entry]
        conversion.leave_out((section, entry), "only what is left out uses it")
    if removed:
        _note_parent(conversion, path)
    for section, entries in kept.items():
        for entry, value in entries.items():
            conversion.found.propose((section, entry), value, seen)
    return [(str(section), str(name)) for section, name, *_ in removed]


def _unused(removed: Iterable[Any], kept: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """The volumes, networks and configs that something of `removed` names, and no service of `kept`."""
    named, used = (set(_names(list(each))) for each in (removed, kept.get("services", {}).values()))
    others = [(section, entry) for section in kept if section != "services" for entry in kept[section]]
    return [(section, entry) for section, entry in others if entry in named - used]


def _names(value: Any) -> Iterator[str]:
    """Every text below `value` that may be the name of something, as `data` in `data:/var/lib`."""
    if isinstance(value, str):
        yield value.partition(":")[0]
    elif isinstance(value, dict):
        yield from (str(key) for key in value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _names(each)


def _to_remove(problems: Iterable[Diagnostic], kept: dict[str, dict[str, Any]]) -> dict[KeyPath, list[Diagnostic]]:
    """The entries of sections that have problems, each with these."""
    found: dict[KeyPath, list[Diagnostic]] = {}
    for problem in problems:
        section, name = (*problem.path, None, None)[:2]
        if section in kept and name in kept[str(section)]:
            found.setdefault((str(section), str(name)), []).append(problem)
    if found:
        return found
    # Where no problem has a place in an entry, no single one causes it: everything has to go.
    first = list(problems)[:1]
    return {(section, name): first for section, entries in kept.items() for name in entries}


def _leave_out(conversion: Conversion, place: KeyPath, reasons: list[Diagnostic]) -> None:
    texts = []
    for reason in reasons[:MOST_REASONS]:
        inner = render_path(reason.path[2:]) if reason.path[:2] == place else ""
        texts.append(f"{inner}: {reason.message}" if inner else reason.message)
    at = reasons[0].path if reasons[0].path[:2] == place else place
    while len(at) > 2 and not has_path(conversion.data, at):
        at = at[:-1]
    text = f"left out whole: {'; '.join(dict.fromkeys(texts))}"
    position = conversion.source.positions.of_key(at)
    conversion.found.left_out.append(LeftOut(render_path(place), text, position))


def _note_parent(conversion: Conversion, path: Path) -> None:
    """Say that the file's paths lead out of the new file's directory, where that one's parent has them all."""
    if conversion.directory != conversion.target or not _leads_up(table(conversion.data, "services")):
        return
    above = conversion.target.parent
    name = f"{conversion.directory.name}/{Path(conversion.source.file).name}"
    problems = include_problems(Findings(), name, above / path.name)
    if not any(_OUTSIDE in problem.message for problem in problems):
        effect = "includes it as it is" if not problems else "includes it, once what is wrong is right"
        conversion.found.note(
            f"its paths lead out of this directory: `-o {os.path.relpath(above / path.name)}` {effect}"
        )


def _leads_up(value: Any) -> bool:
    """Whether any text below `value` is a path that begins with `..`."""
    if isinstance(value, str):
        return value == ".." or value.startswith("../")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_leads_up, inner))


def _note_absolute(conversion: Conversion, service: str, entry: Any) -> None:
    volumes = entry.get("volumes") if isinstance(entry, dict) else None
    for volume in volumes if isinstance(volumes, list) else ():
        kind, source, _ = volume_entry(volume)
        if kind == "bind" and source.startswith(("/", "~")):
            conversion.found.note(
                f"{service} mounts {source}: in the machine that is the machine's own, not this host's"
            )
