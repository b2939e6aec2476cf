"""The templates. Each is a folder with a Sandboxfile.yaml that is valid as it is."""

from __future__ import annotations

from typing import NamedTuple

from engine import resources
from engine.agents import known_agents
from engine.errors import EngineError

FILE = "Sandboxfile.yaml"
DEFAULT = "shell"
REFERENCE = "default"  # it documents every field


class Template(NamedTuple):
    """One template. `summary` is the first line of its file; `is_agent` says whether an agent has the same name."""

    name: str
    summary: str
    is_agent: bool


def template_names() -> tuple[str, ...]:
    """The names of all templates: first those of agents, then the others. Reads directories only."""
    agents = known_agents()
    names = sorted(path.parent.name for path in resources.templates().glob(f"*/{FILE}"))
    return (*(name for name in names if name in agents), *(name for name in names if name not in agents))


def list_templates() -> tuple[Template, ...]:
    """All templates, agents first."""
    agents = known_agents()
    return tuple(Template(name, _summary(read_template(name)), name in agents) for name in template_names())


def read_template(name: str) -> str:
    """The text of a template. Raises EngineError (exit code 2) when there is no template of that name."""
    names = template_names()
    if name not in names:
        from sandboxfile.diagnostics import did_you_mean, quote

        hint = did_you_mean(name, names) or f"the templates are {', '.join(names)}"
        raise EngineError(f"there is no template {quote(name)}", hint=hint, exit_code=2)
    return (resources.templates() / name / FILE).read_text(encoding="utf-8")


def _summary(text: str) -> str:
    return text.partition("\n")[0].lstrip("# ").rstrip(".")
