"""What was approved is remembered whole, privately and for one file; anything else counts as not approved."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError
from engine.state.layout import Layout
from engine.trust.approvals import find_approval, forget_approval, list_approvals, save_approval
from engine.trust.asks import Ask

FILE = Path("/src/shop/Sandboxfile.yaml")
ASKS = (
    Ask("directory", "/src/shop", "rw", "this project, as /workspace"),
    Ask("secret", "variable GH_TOKEN", "api.example.com", "called github", "careful"),
    Ask("directory", os.fsdecode(b"/src/\xff\x1b[2J"), "ro"),
)


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


def test_what_is_saved_is_found(layout: Layout) -> None:
    assert find_approval(layout, FILE) is None and list_approvals(layout) == []
    save_approval(layout, FILE, ASKS)
    record = find_approval(layout, FILE)
    assert record is not None and record.approval is not None and record.note is None
    assert record.approval.asks == ASKS and record.approval.file == FILE
    assert record.id == layout.approval(FILE).stem
    assert list_approvals(layout) == [record]
    assert find_approval(layout, Path("/src/other/Sandboxfile.yaml")) is None
    forget_approval(layout, record)
    forget_approval(layout, record)
    assert find_approval(layout, FILE) is None


def test_the_last_approval_counts(layout: Layout) -> None:
    save_approval(layout, FILE, ASKS)
    save_approval(layout, FILE, ASKS[:1])
    record = find_approval(layout, FILE)
    assert record is not None and record.approval is not None and record.approval.asks == ASKS[:1]


def test_nobody_else_can_read_it(layout: Layout) -> None:
    before = os.umask(0)
    try:
        save_approval(layout, FILE, ASKS)
    finally:
        os.umask(before)
    assert layout.approval(FILE).stat().st_mode & 0o777 == 0o600
    assert list(layout.trust.iterdir()) == [layout.approval(FILE)]


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another version": lambda value: {**value, "version": 0},
    "no version": lambda value: {key: item for key, item in value.items() if key != "version"},
    "an ask more": lambda value: {**value, "asks": [*value["asks"], {**value["asks"][0], "subject": "/"}]},
    "another subject": lambda value: {**value, "asks": [{**value["asks"][0], "subject": "/"}, *value["asks"][1:]]},
    "an unknown kind": lambda value: {**value, "asks": [{**value["asks"][0], "kind": "everything"}]},
    "an unknown mode": lambda value: {**value, "asks": [{**value["asks"][0], "detail": "rwx"}]},
    "a number": lambda value: {**value, "asks": [{**value["asks"][0], "note": 1}]},
    "a key less": lambda value: {**value, "asks": [{"kind": "port"}]},
    "no list": lambda value: {**value, "asks": None},
    "no file": lambda value: {**value, "file": None},
    "a list": lambda value: [value],
    "null": lambda value: None,
    "text": lambda value: "approved",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_approves_nothing(layout: Layout, damage: str) -> None:
    save_approval(layout, FILE, ASKS)
    path = layout.approval(FILE)
    path.write_text(json.dumps(DAMAGES[damage](json.loads(path.read_text()))))
    record = find_approval(layout, FILE)
    assert record is not None and record.approval is None
    assert record.note == f"{path} is damaged"
    assert list_approvals(layout) == [record]


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_record_that_is_no_json_approves_nothing(layout: Layout, text: bytes) -> None:
    save_approval(layout, FILE, ASKS)
    layout.approval(FILE).write_bytes(text)
    record = find_approval(layout, FILE)
    assert record is not None and record.approval is None and "cannot be read" in (record.note or "")


def test_a_record_of_a_newer_version_approves_nothing(layout: Layout) -> None:
    save_approval(layout, FILE, ASKS)
    path = layout.approval(FILE)
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    record = find_approval(layout, FILE)
    assert record is not None and record.approval is None and "newer version" in (record.note or "")


def test_a_record_of_another_file_approves_nothing(layout: Layout) -> None:
    other = FILE.with_name("Other.yaml")
    save_approval(layout, other, ASKS)
    layout.approval(other).rename(layout.approval(FILE))
    record = find_approval(layout, FILE)
    assert record is not None and record.approval is None and "another file" in (record.note or "")


def test_a_directory_in_its_place(layout: Layout) -> None:
    layout.approval(FILE).mkdir(parents=True)
    record = find_approval(layout, FILE)
    assert record is not None and record.approval is None
    with pytest.raises(EngineError, match="cannot write"):
        save_approval(layout, FILE, ASKS)
