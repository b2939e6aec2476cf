"""The templates: folders with a Sandboxfile.yaml that is valid as it is. The user's own agents are there, too."""

from __future__ import annotations

from typing import NamedTuple

from engine import resources
from engine.agents import find_agents, load_agent
from engine.errors import EngineError

FILE = "Sandboxfile.yaml"
DEFAULT = "shell"
REFERENCE = "default"  # it documents every field


class Template(NamedTuple):
    """One template. `summary` is the first line of its file; `is_agent` says whether an agent has the same name.
    `remark` is where it is, for those of the user."""

    name: str
    summary: str
    is_agent: bool
    remark: str = ""


def template_names() -> tuple[str, ...]:
    """The names of all templates: first those of agents, then the others. Reads directories only."""
    agents = find_agents()
    names = {path.parent.name for path in resources.templates().glob(f"*/{FILE}")}
    names |= {name for name, place in agents.items() if place.own}
    return (*sorted(names & set(agents)), *sorted(names - set(agents)))


def list_templates() -> tuple[Template, ...]:
    """All templates, agents first. Raises EngineError and SandboxfileError for one of the user's that is broken."""
    agents = find_agents()
    return tuple(
        Template(name, _summary(read_template(name)), name in agents, agents[name].remark if name in agents else "")
        for name in template_names()
    )


def read_template(name: str) -> str:
    """The text of a template. Raises EngineError (exit code 2) when there is no template of that name, and
    SandboxfileError for a broken definition of the user's."""
    names = template_names()
    if name not in names:
        from sandboxfile.diagnostics import did_you_mean, quote

        hint = did_you_mean(name, names) or f"the templates are {', '.join(names)}"
        raise EngineError(f"there is no template {quote(name)}", hint=hint, exit_code=2)
    place = find_agents().get(name)
    if place is None or not place.own:
        return (resources.templates() / name / FILE).read_text(encoding="utf-8")
    written = place.path.with_name(FILE)
    if not written.exists():
        from engine.starter.own import starter_for

        return starter_for(load_agent(name))
    try:
        return written.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise EngineError(f"{place.shown}/{FILE} cannot be read: {error}", exit_code=2) from error


def _summary(text: str) -> str:
    return text.partition("\n")[0].lstrip("# ").rstrip(".")
