"""What the documents point at exists, their examples are valid, and generated pages are what is generated now.

A claim whose test was renamed or removed is no claim.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from engine.cli.group import cli
from engine.cli.security_page import with_table
from sandboxfile import parse
from sandboxfile.pages.reference import render_reference
from sandboxfile.pages.schema import model_schema
from sandboxfile.sections.model import Sandbox

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*/README.md"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
REFERENCE = re.compile(
    r"`(?P<file>(?:tests|engine|vmm|sandboxfile|docs|examples|scripts|bench)/[\w/.-]+)(?:::(?P<name>\w+))?`"
)
NAMES = re.compile(r"`(?P<file>test_\w+\.py)(?:::(?P<name>\w+))?`")
LINK = re.compile(r"\]\((?!https?:|#)(?P<target>[^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_and_tests_exist(page: Path) -> None:
    text = page.read_text()
    for match in REFERENCE.finditer(text):
        path = ROOT / match["file"]
        assert path.exists(), match[0]
        assert match["name"] is None or f"def {match['name']}(" in path.read_text(), match[0]
    for match in NAMES.finditer(text):
        found = list((ROOT / "tests").rglob(match["file"]))
        assert found, match[0]
        assert match["name"] is None or any(f"def {match['name']}(" in path.read_text() for path in found), match[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(page.read_text()):
        assert (page.parent / match["target"]).exists(), match[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_a_page_lead_to_a_heading(page: Path) -> None:
    text = page.read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\(#([^)]+)\)", text):
        assert target in headings, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_in_a_page_are_valid(page: Path, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()  # sandboxes are called by it
    (tmp_path / "shop" / "compose.yaml").write_text("services: {db: {image: postgres:17}}\n")  # some include it
    for example in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S):
        whole = example if re.search("^version:", example, re.M) else f'version: "1"\n{example}'
        assert parse(whole, tmp_path / "shop" / "Sandboxfile.yaml").sandbox


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda page: f"{page.parent.name} {page.name}")
def test_commands_in_a_page_are_ours(page: Path) -> None:
    for line in re.findall(r"^    \$ sandbox ([^#\n]*)", page.read_text(), re.M):
        name, *words = shlex.split(line.replace("'", "").partition(" -- ")[0])
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words[0])
        assert command is not None, line
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert used <= {*known, "-it", "--help"}, line


def test_the_reference_is_the_generated_one() -> None:
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == render_reference(), "python -m sandboxfile.pages.reference > docs/reference.md"


def test_the_reference_has_every_key() -> None:
    text = render_reference()
    for name in Sandbox.model_fields:
        assert f"\n## {name}\n" in text
    for model, node in model_schema()["$defs"].items():
        for form in (node, *node.get("anyOf", ())):
            for key in form.get("properties", {}):
                assert f"| `{key}` |" in text or f"| [`{key}`]" in text, (model, key)


def test_the_table_of_confinement_is_the_code_s() -> None:
    page = (ROOT / "docs/security.md").read_text()
    assert with_table(page) == page, "python -m engine.cli.security_page docs/security.md"
