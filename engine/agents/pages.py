"""The pages of docs/agents, made from the definitions: `python -m engine.agents.pages DIRECTORY` writes them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from engine.agents import builtin_agents, load_agent
from engine.agents.definition import AgentDefinition, Credential
from engine.agents.installation import InstallStep
from sandboxfile.quantities import GIB

INDEX = "README.md"
_MADE = "<!-- generated: python -m engine.agents.pages docs/agents -->"


def render_pages() -> dict[str, str]:
    """Name of the file -> its text, for each agent that comes with the program, and an index."""
    definitions = [load_agent(name) for name in builtin_agents()]
    return {
        INDEX: _paragraphs(_index(definitions)),
        **{f"{each.name}.md": _paragraphs(_page(each)) for each in definitions},
    }


def _paragraphs(parts: Iterator[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _index(definitions: list[AgentDefinition]) -> Iterator[str]:
    yield "# Agents"
    yield _MADE
    yield (
        "What `agent: {use: NAME}` can name. Each is one folder of `templates/`; yours are folders of"
        " `~/.config/sandbox/agents/` with an `agent.yaml` of the same form, and `sandbox init --list` shows both. One"
        " of yours with the name of another takes its place, and `sandbox plan` says so."
    )
    rows = ["| agent | version | credentials | seen |", "|---|---|---|---|"]
    for each in definitions:
        kinds = ", ".join(dict.fromkeys(kind.source.env[0] for kind in each.credentials.values())) or "signs in inside"
        seen = "run" if each.evidence == "run" else "not run"
        rows.append(f"| [{each.title}]({each.name}.md) | {each.install.version} | {kinds} | {seen} |")
    yield "\n".join(rows)
    yield "Any other program of npm, in one version, with the command that starts it:"
    yield '    agent: {use: "npm:@scope/package@1.2.3", command: [program, --option]}'
    yield (
        "Node comes with it, the package is installed without its scripts, and its digest is the one that the registry"
        " says. It is taken to have no credentials of its own: what the `secrets` of the file give to the machine is in"
        " its environment, as for any command."
    )


def _page(definition: AgentDefinition) -> Iterator[str]:
    yield f"# {definition.title}"
    yield _MADE
    yield f"{definition.summary}." + (f" Its makers explain it at <{definition.docs}>." if definition.docs else "")
    yield "## Start"
    yield "    $ sandbox init " + definition.name + "\n    $ sandbox up" + _run_line(definition)
    yield _commands(definition)
    yield "## Sign in"
    yield from _credentials(definition)
    yield "## What it reaches"
    rows = ["| host | what for |", "|---|---|", *(f"| {each.host} | {each.why} |" for each in definition.hosts)]
    yield "\n".join(rows)
    if definition.unneeded:
        yield (
            f"It asks for these, too, and works without them: {', '.join(definition.unneeded)}. They are refused unless"
            " an endpoint names them, and `sandbox journal --summary` has one line for all of them."
        )
    yield "## In the machine"
    yield _in_the_machine(definition)
    yield "## What was run"
    yield _bullets(definition.seen) if definition.seen else "Nothing: this is from its documents. Not run."
    if definition.limits:
        yield "## Limits"
        yield _bullets(definition.limits)


def _run_line(definition: AgentDefinition) -> str:
    return '\n    $ sandbox run -p "what is this project?"' if definition.commands.headless else ""


def _commands(definition: AgentDefinition) -> str:
    commands = definition.commands
    rows = [("With a terminal", commands.interactive), ("For one task", commands.headless)]
    rows += [("To go on with a session", commands.resume)]
    lines = [f"- {what}: `{shlex.join(argv)}`" for what, argv in rows if argv is not None]
    if commands.headless is None:
        lines.append("- It does nothing without a terminal.")
    return "\n".join(lines)


def _credentials(definition: AgentDefinition) -> Iterator[str]:
    if not definition.credentials:
        yield "It has no credential here: somebody signs in inside of the machine, and what it gets then lives there."
        return
    yield (
        "The machine holds a placeholder; the gateway puts the value into requests for these hosts, and into no others."
        " The first kind is the usual one; which one it is, the hosts and the placeholder of the secret decide."
    )
    rows = ["| kind | value | kept with | placeholder | goes to |", "|---|---|---|---|---|"]
    rows += [_credential(kind) for kind in definition.credentials.values()]
    yield "\n".join(rows)
    if renewed := [kind for kind in definition.credentials.values() if kind.renewal]:
        names = ", ".join(f"{kind.renewal.host}{kind.renewal.path}" for kind in renewed if kind.renewal)
        yield f"Its tokens are renewed at {names}; the machine gets placeholders for the new ones."


def _credential(kind: Credential) -> str:
    goes = "; ".join(f"{each.host} as `{each.header}`" for each in kind.inject)
    values = " or ".join(f"`{name}`" for name in kind.source.env)
    return f"| {kind.summary} | {values} | `sandbox secret set {kind.secret}` | `{kind.placeholder}` | {goes} |"


def _in_the_machine(definition: AgentDefinition) -> str:
    install = definition.install
    lines = [f"Version {install.version} is installed; `agent.version` chooses another one. In this order:"]
    lines.append(_bullets(tuple(_step(step) for step in install.steps)))
    more = []
    if definition.machine.memory > 2 * GIB:
        more.append(f"It needs {definition.machine.memory / GIB:g} GiB of memory.")
    if definition.state:
        more.append(f"It keeps settings, logins and sessions in {', '.join(f'`{path}`' for path in definition.state)}.")
    if definition.env:
        said = ", ".join(f"`{name}={value}`" for name, value in definition.env.items())
        more.append(f"Its environment has {said}, so that it is quiet.")
    return "\n\n".join([*lines, *([" ".join(more)] if more else [])])


def _step(step: InstallStep) -> str:
    if step.unpack is not None:
        found = (("x86-64", step.unpack.amd64), ("ARM", step.unpack.arm64))
        parts = [f"`{package.package}` ({name})" for name, package in found if package is not None]
        return f"{' or '.join(parts)} of npm is unpacked, checked by its digest; nothing of it runs"
    if step.npm is not None and step.npm.lock is not None:
        known = "all of them unpacked by the host, each checked by its digest; nothing of them runs before that"
        return f"`{step.npm.package}` of npm with the packages that it depends on, {known} (`{step.npm.lock}`)"
    if step.npm is not None:
        scripts = f"the scripts of {', '.join(step.npm.scripts)} run" if step.npm.scripts else "without its scripts"
        return f"npm installs `{step.npm.package}`, checked by its digest, {scripts}"
    if step.download is not None:
        digest = "checked by its digest" if step.download.sha256 else "from its vendor by TLS; no digest is known"
        return f"`{step.download.amd64 or step.download.arm64}` is downloaded, {digest}"
    return f"`{(step.run or '').strip().splitlines()[0]}` runs as the user `agent`"


def _bullets(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def write_pages(directory: Path) -> None:
    """Write all pages, and remove those of agents that are gone."""
    pages = render_pages()
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
