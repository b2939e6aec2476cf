"""From a Compose file to a Sandboxfile.

The Compose file is included as it is if all of it can be used. Else its values are copied, except those that cannot.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.starter.assembly import problems_of
from engine.starter.containers import propose_images
from engine.starter.conversion import Conversion, slug
from engine.starter.project_tree import Project, table, word
from sandboxfile.compose.services import volume_entry
from sandboxfile.diagnostics import Diagnostic
from sandboxfile.names import SECTIONS
from sandboxfile.positions import KeyPath
from sandboxfile.reading.document import has_path
from sandboxfile.writing.notation import Hand

MOST_ROUNDS = 100  # each round removes at least one value

_NOT_CARRIED = {
    "version": "Compose itself has no use for it any more",
    "secrets": "no credential enters the machine; requests get them from `secrets` and `endpoints` here",
    "include": "only the services of this file were copied",
}


def convert_compose(conversion: Conversion, path: Path) -> None:
    """Add to the findings what the Compose file says. `path` is the path of the Sandboxfile.

    Raises EngineError (exit code 2) when values have to be copied and the Sandboxfile is in another directory.
    """
    data, found = conversion.data, conversion.found
    seen = f"from {conversion.source.file}"
    if name := slug(word(data, "name")):
        found.propose("name", name, f"{seen}: name")
    file = conversion.inside(Path(conversion.source.file).name)
    if file is not None and not _problems({"services": {"include": file}}, path):
        found.propose(("services", "include"), file, f"as it is: {', '.join(table(data, 'services'))}")
        if "version" in data:
            conversion.leave_out(("version",), _NOT_CARRIED["version"])
    else:
        _copy(conversion, path, seen)
    for service, entry in table(data, "services").items():
        _note_absolute(conversion, service, entry)
    project = Project(conversion.directory, found.note)
    propose_images(project, found, conversion.source, "")


def _copy(conversion: Conversion, path: Path, seen: str) -> None:
    if conversion.directory != conversion.target:
        hint = f"-o {conversion.directory / path.name}"
        message = "parts of this file cannot be used, and the others belong beside it: their paths start there"
        raise EngineError(message, hint=hint, exit_code=2)
    data = conversion.data
    for key in data:
        if key not in SECTIONS and key != "name":
            anchors = "its anchors are written out where they are used"
            reason = anchors if key.startswith("x-") else "it is not a section that a sandbox can take over"
            conversion.leave_out((key,), _NOT_CARRIED.get(key, reason))
        elif key in SECTIONS and not isinstance(data[key], dict):
            conversion.leave_out((key,), "it is no mapping")
    removed: dict[KeyPath, str] = {}
    kept, origin = _prune({key: data[key] for key in SECTIONS if key in data}, removed)
    for _ in range(MOST_ROUNDS):
        problems = _problems(kept, path)
        if not problems:
            break
        removed |= _to_remove(problems, kept, origin)
        kept, origin = _prune({key: data[key] for key in SECTIONS if key in data}, removed)
    else:
        removed, kept = {(key,): problems[0].message for key in kept}, {}
    for place, reason in removed.items():
        conversion.leave_out(place, reason)
    for section, entries in kept.items():
        for entry, value in entries.items():
            conversion.found.propose((section, entry), value, seen)


def _problems(document: dict[str, Any], path: Path) -> tuple[Diagnostic, ...]:
    lines = [line for key, value in document.items() for line in Hand().entry(key, value, 0)]
    return problems_of("\n".join(['version: "1"', *lines, ""]), path)


def _to_remove(
    problems: Iterable[Diagnostic], kept: dict[str, Any], origin: dict[KeyPath, KeyPath]
) -> dict[KeyPath, str]:
    """The paths of the values in the original file that cause the problems, each with the reason."""
    reasons: dict[KeyPath, str] = {}
    for problem in problems:
        place = problem.path
        while len(place) > 1 and not has_path(kept, place):
            place = place[:-1]
        if has_path(kept, place) and place:
            reasons.setdefault(origin[place], problem.message)
    # Where no problem has a place in the file, no single value causes it: everything has to be removed.
    return reasons or {origin[(key,)]: next(iter(problems)).message for key in kept}


def _prune(data: dict[str, Any], removed: dict[KeyPath, str]) -> tuple[dict[str, Any], dict[KeyPath, KeyPath]]:
    """The data without the removed values, and for each path of the result the path in the original."""
    origin: dict[KeyPath, KeyPath] = {}

    def copy(value: Any, old: KeyPath, new: KeyPath) -> Any:
        origin[new] = old
        if isinstance(value, dict):
            return {
                key: copy(item, (*old, key), (*new, key)) for key, item in value.items() if (*old, key) not in removed
            }
        if isinstance(value, list):
            left = [(index, item) for index, item in enumerate(value) if (*old, index) not in removed]
            return [copy(item, (*old, index), (*new, count)) for count, (index, item) in enumerate(left)]
        return value

    kept = {key: value for key, value in copy(data, (), ()).items() if isinstance(value, dict) and value}
    return kept, origin


def _note_absolute(conversion: Conversion, service: str, entry: Any) -> None:
    volumes = entry.get("volumes") if isinstance(entry, dict) else None
    for volume in volumes if isinstance(volumes, list) else ():
        kind, source, _ = volume_entry(volume)
        if kind == "bind" and source.startswith(("/", "~")):
            conversion.found.note(
                f"{service} mounts {source}: in the machine that is the machine's own, not this host's"
            )
