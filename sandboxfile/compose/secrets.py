"""Secrets of an included Compose file that are files of the project.

The guest sees those anyway: they become configs.
"""

from __future__ import annotations

from typing import Any

from sandboxfile.reading.document import Placed, child

PREFIX = "secret_"


def secrets_to_configs(tree: Placed) -> Placed:
    """The sections of a Compose file without `secrets`.

    A secret that is a file becomes a config, at the same path in containers. Services with other secrets keep them, and
    are refused later, with their place.
    """
    declared = _members(tree.value.get("secrets"))
    files = {
        name: file for name, entry in declared.items() if isinstance(_text(file := child(entry.value, "file")), str)
    }
    sections = {key: item for key, item in tree.value.items() if key != "secrets"}
    used: dict[str, Placed] = {}
    if services := _members(sections.get("services")):
        moved = {name: _move(service, files, used) for name, service in services.items()}
        sections["services"] = Placed(moved, sections["services"].source, sections["services"].path)
    configs = sections.get("configs")
    if used and (configs is None or isinstance(configs.value, dict)):
        where = configs or tree
        sections["configs"] = Placed({**_members(configs), **used}, where.source, where.path)
    return Placed(sections, tree.source, tree.path)


def _move(service: Placed, files: dict[str, Placed], used: dict[str, Placed]) -> Placed:
    secrets = child(service.value, "secrets")
    if secrets is None or not isinstance(secrets.value, list):
        return service
    if not all(_name(entry) in files for entry in secrets.value):
        return service
    configs = child(service.value, "configs")
    if configs is not None and not isinstance(configs.value, list):
        return service
    entries = list(configs.value) if configs else []
    for entry in secrets.value:
        name = _name(entry)
        target = _text(child(entry.value, "target")) or name
        path = str(target) if str(target).startswith("/") else f"/run/secrets/{target}"
        entries.append(_beside(entry, {"source": _beside(entry, PREFIX + name), "target": _beside(entry, path)}))
        used[PREFIX + name] = _beside(files[name], {"file": files[name]})
    rest = {key: item for key, item in service.value.items() if key != "secrets"}
    return Placed({**rest, "configs": _beside(configs or secrets, entries)}, service.source, service.path)


def _name(entry: Placed) -> str:
    return str(_text(child(entry.value, "source")) if isinstance(entry.value, dict) else entry.value)


def _beside(place: Placed, value: Any) -> Placed:
    return Placed(value, place.source, place.path)


def _text(item: Placed | None) -> Any:
    return None if item is None else item.value


def _members(item: Placed | None) -> dict[str, Placed]:
    return item.value if item is not None and isinstance(item.value, dict) else {}
