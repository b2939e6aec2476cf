"""The pages of docs/agents are those of the definitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.agents import builtin_agents, load_agent
from engine.agents.pages import INDEX, render_pages, write_pages

DOCS = Path(__file__).parents[3] / "docs" / "agents"


def test_they_are_what_is_generated_now() -> None:
    written = {path.name: path.read_text() for path in DOCS.glob("*")}
    assert written == render_pages(), "python -m engine.agents.pages docs/agents"


def test_each_agent_has_one_and_the_index_links_it() -> None:
    pages = render_pages()
    assert set(pages) == {INDEX, *(f"{name}.md" for name in builtin_agents())}
    assert all(f"({name}.md)" in pages[INDEX] for name in builtin_agents())


@pytest.mark.parametrize("name", builtin_agents())
def test_a_page_says_how_far_it_was_run(name: str) -> None:
    definition, page = load_agent(name), render_pages()[f"{name}.md"]
    assert definition.docs, "those that come with the program say where they are explained"
    assert ("Not run." in page) == (definition.evidence != "run")
    assert all(definition.install.version in line and "2026-" in line for line in definition.seen)
    assert bool(definition.seen) == (definition.evidence == "run")
    assert all(needed.host in page for needed in definition.hosts)
    assert all(kind.placeholder in page for kind in definition.credentials.values())


def test_pages_of_agents_that_are_gone_go(tmp_path: Path) -> None:
    (tmp_path / "gone.md").write_text("old")
    write_pages(tmp_path)
    assert {path.name for path in tmp_path.glob("*.md")} == set(render_pages())
