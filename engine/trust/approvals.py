"""What the user has approved: one record for each file, in the user's state directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.decoding import decode
from engine.errors import EngineError
from engine.files import read_json, write_json
from engine.state.layout import Layout
from engine.trust.asks import RIGHTS, WITHOUT, Ask, digest
from sandboxfile import Loaded

VERSION = 1


@dataclass(frozen=True)
class Approval:
    """What one file may have of the host. `file` is its real path, `approved` the time of the agreement (ISO, UTC)."""

    file: Path
    asks: tuple[Ask, ...]
    approved: str

    @property
    def digest(self) -> str:
        return digest(self.asks)


@dataclass(frozen=True)
class Record:
    """What one file of the store holds. Where it cannot be used, `approval` is None and `note` says why."""

    id: str
    approval: Approval | None
    note: str | None = None


def identity(loaded: Loaded) -> Path:
    """The path under which a file is remembered: its own name in its real directory."""
    return loaded.path.parent.resolve() / loaded.path.name


def find_approval(layout: Layout, file: Path) -> Record | None:
    """The record of the file, None when there is none."""
    path = layout.approval(file)
    record = _read(path)
    if record is not None and record.approval is not None and record.approval.file != file:
        return Record(path.stem, None, f"{path} is about another file")
    return record


def list_approvals(layout: Layout) -> list[Record]:
    """All records, ordered by the path of the file; those that cannot be used come last."""
    records = [record for path in layout.trust.glob("*.json") if (record := _read(path)) is not None]
    return sorted(records, key=lambda r: (r.approval is None, str(r.approval.file) if r.approval else "", r.id))


def save_approval(layout: Layout, file: Path, asks: Iterable[Ask]) -> None:
    """Remember that the user agreed to `asks`, and to nothing else of that file. Raises EngineError."""
    asks = tuple(asks)
    record = {
        "version": VERSION,
        "file": str(file),
        "approved": datetime.now(UTC).isoformat(timespec="seconds"),
        "digest": digest(asks),
        "asks": [asdict(ask) for ask in asks],
    }
    path = layout.approval(file)
    try:
        write_json(path, record)
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}") from error


def forget_approval(layout: Layout, record: Record) -> None:
    """Delete the record, so that the next `up` of that file asks again. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        (layout.trust / f"{record.id}.json").unlink()


def _read(path: Path) -> Record | None:
    try:
        value = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        return Record(path.stem, None, f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no JSON'}")
    try:
        if isinstance(value, dict) and isinstance(value.get("version"), int) and value["version"] > VERSION:
            return Record(path.stem, None, f"{path} was made by a newer version of sandbox")
        return Record(path.stem, _parse(value))
    except ValueError:
        return Record(path.stem, None, f"{path} is damaged")


def _parse(value: Any) -> Approval:
    """Raises ValueError for everything that `save_approval` could not have written."""
    approval = decode(Approval, value)
    if not all(map(_is_ask, approval.asks)):
        raise ValueError
    if value.get("version") != VERSION or value.get("digest") != approval.digest:
        raise ValueError
    return approval


def _is_ask(ask: Ask) -> bool:
    if ask.kind == "machine":
        return ask.detail.isdecimal()
    return ask.kind != "directory" or ask.detail.partition(WITHOUT)[0] in RIGHTS
