"""The programs and the kernel that machines are made with, as values that any process can load again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vmm.errors import VmmError

HERE = "@DIRECTORY@"  # stands for the toolchain's own directory in its JSON, so that the directory can be renamed
DESCRIPTION = "tools.json"  # in the toolchain's directory
VERSION = 1


@dataclass(frozen=True)
class Tool:
    """One program: `argv` is the prefix that starts it, `env` what it needs beside that, `path` the program itself."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    version: str
    origin: Literal["private", "system"]
    path: Path

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs it with `arguments`; start it with `env`."""
        return [*self.argv, *arguments]


@dataclass(frozen=True)
class Tools:
    """A complete set. `id` is a hash of what it was made of; `qemu_data` are QEMU's -L arguments.

    `connect` is netcat as found in OpenBSD: `nc -N -U SOCKET` joins its stdin and stdout to a unix socket.
    `passt` carries the guest's packets where it is there and runs (vmm/carrier.py).
    `modules` is the directory lib/modules/<kernel_release>, with modules.dep.
    """

    qemu: Tool
    qemu_img: Tool
    mkfs_erofs: Tool
    mkfs_ext4: Tool
    connect: Tool
    qemu_data: tuple[str, ...]
    kernel: Path
    kernel_release: str
    modules: Path
    busybox: Path
    id: str
    passt: Tool | None = None

    def programs(self) -> tuple[Tool, ...]:
        """Every program of the set, in a fixed order."""
        return tuple(
            value for field in dataclasses.fields(self) if isinstance(value := getattr(self, field.name), Tool)
        )


def to_json(tools: Tools, directory: Path) -> str:
    """The set as JSON; paths below `directory` are written relative to it."""
    plain = {"format": VERSION, **dataclasses.asdict(tools)}
    return json.dumps(_replace(plain, str(directory), HERE), indent=1, sort_keys=True) + "\n"


def load_tools(directory: Path) -> Tools:
    """The set in `directory`. Raises OSError when there is none, VmmError when its description cannot be read."""
    return from_json((directory / DESCRIPTION).read_text(), directory)


def from_json(text: str, directory: Path) -> Tools:
    """The set that `to_json` wrote, now living in `directory`. Raises VmmError when it is not one."""
    try:
        plain = _replace(json.loads(text), HERE, str(directory))
        if plain.pop("format") != VERSION:
            raise VmmError(f"the toolchain in {directory} has another format", hint="remove it and build it again")
        values: dict[str, Any] = {}
        for field in dataclasses.fields(Tools):
            value = plain[field.name]
            if isinstance(value, dict):
                value = Tool(**{**value, "argv": tuple(value["argv"]), "path": Path(value["path"])})
            elif isinstance(value, list):
                value = tuple(value)
            elif field.name in ("kernel", "modules", "busybox"):
                value = Path(value)
            values[field.name] = value
        return Tools(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VmmError(f"the toolchain's description in {directory} cannot be read", details=repr(error)) from error


def _replace(value: Any, old: str, new: str) -> Any:
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        # Only as the start of a path: a directory called "/x" must not be found inside "/x-other".
        return new + value[len(old) :] if value == old or value.startswith(old + "/") else value
    if isinstance(value, Mapping):
        return {key: _replace(item, old, new) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace(item, old, new) for item in value]
    return value
