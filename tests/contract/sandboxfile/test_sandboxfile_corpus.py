"""Every file of the corpus: the good ones load, the bad ones say exactly what their .txt says; the schema agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sandboxfile import SandboxfileError, parse
from sandboxfile.pages.schema import json_schema, render_schema
from sandboxfile.reading.source import read_source

HERE = Path(__file__).parent
BAD = sorted((HERE / "bad").glob("*.yaml"))
GOOD = sorted((HERE / "good").glob("*.yaml"))
SCHEMA_FILE = HERE.parents[2] / "schemas" / "sandboxfile-1.json"
# Bad files that the schema accepts: rules across fields, across sections, about the world, or of Compose. The list is
# compared as a whole, so that no rule leaves or enters the schema unnoticed.
BEYOND_THE_SCHEMA = set((HERE / "beyond_the_schema.txt").read_text().split())


def test_the_corpus_is_not_empty() -> None:
    assert len(BAD) >= 200
    assert len(GOOD) >= 25


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_bad_file_is_refused_with_its_message(file: Path) -> None:
    with pytest.raises(SandboxfileError) as caught:
        parse(file.read_bytes(), Path("/project", file.name))
    assert str(caught.value) + "\n" == file.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_good_file_loads_and_is_frozen(file: Path) -> None:
    loaded = parse(file.read_bytes(), Path("/project", file.name))
    assert loaded.sandbox.version == "1"
    with pytest.raises(ValueError, match="frozen"):
        loaded.sandbox.name = "other"


def test_every_message_belongs_to_a_file() -> None:
    assert {file.stem for file in (HERE / "bad").glob("*.txt")} == {file.stem for file in BAD}


def test_committed_schema_is_the_generated_one() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == render_schema(), (
        "python -m sandboxfile.pages.schema > schemas/..."
    )


def test_schema_is_valid_itself() -> None:
    Draft202012Validator.check_schema(json.loads(render_schema()))


def test_schema_describes_every_key() -> None:
    def undescribed(node: Any, path: str) -> list[str]:
        found = []
        if isinstance(node, dict):
            for name, child in node.get("properties", {}).items():
                if "description" not in child and "$ref" not in child:
                    found.append(f"{path}.{name}")
            for name, child in node.items():
                found += undescribed(child, f"{path}.{name}")
        elif isinstance(node, list):
            for child in node:
                found += undescribed(child, path)
        return found

    assert undescribed(json_schema(), "") == []


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_schema_accepts_good_file(file: Path) -> None:
    Draft202012Validator(json_schema()).validate(read_source(file.read_bytes(), file.name).data)


def test_schema_refuses_bad_files_unless_the_rule_is_beyond_it() -> None:
    validator = Draft202012Validator(json_schema())
    accepted = set()
    for file in BAD:
        source = read_source(file.read_bytes(), file.name)
        if not source.problems and validator.is_valid(source.data):
            accepted.add(file.stem)
    assert accepted == BEYOND_THE_SCHEMA
