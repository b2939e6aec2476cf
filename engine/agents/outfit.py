"""What an agent gets in one sandbox: its command, its environment, and the files that are there before its first start.

Pure: a definition, what the Sandboxfile says about the agent, and the placeholders that the guest holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.agents.definition import AgentDefinition, Credential, Seed
from engine.agents.words import fill
from sandboxfile.sections.agent import Agent, home_of


@dataclass(frozen=True)
class Held:
    """What the guest holds instead of the value of one secret, and the `hosts` whose requests carry the value."""

    hosts: tuple[str, ...]
    placeholder: str


@dataclass(frozen=True)
class Outfit:
    """How an agent is started. `files` are (path, mode, text), owned by its user. `secret` is the name of the secret
    that the agent itself uses, None where it has none: then it can do nothing before somebody signs in."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    files: tuple[tuple[str, int, str], ...]
    secret: str | None


def outfit_for(definition: AgentDefinition, agent: Agent, workspace: str, held: Mapping[str, Held]) -> Outfit:
    """`workspace` is the working directory in the guest, `held` what the guest holds, by the secrets' names."""
    secret, credential = _choose(definition, held)
    words = {"workspace": workspace}
    if secret is not None:
        words["placeholder"] = held[secret].placeholder
    environment = {**definition.env, **(credential.env if credential else {})}
    seeds = (*definition.seeds, *(credential.seeds if credential else ()))
    return Outfit(
        (*definition.commands.interactive, *agent.args),
        {**fill(environment, words), **agent.env},
        tuple(_files(seeds, words, agent)),
        secret,
    )


def secrets_of(definition: AgentDefinition, hosts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Of secrets, with the hosts that they go to, those that are credentials of this agent."""
    taken = {injection.host for credential in definition.credentials.values() for injection in credential.inject}
    return tuple(name for name, each in hosts.items() if any(goes_to(host, each) for host in taken))


def _choose(definition: AgentDefinition, held: Mapping[str, Held]) -> tuple[str | None, Credential | None]:
    """The secret and the kind of credential that it is for this agent: the first that goes to a host of the kind, and
    one with the kind's own placeholder before others."""
    found = [
        (credential.placeholder != one.placeholder, order, name, credential)
        for order, credential in enumerate(definition.credentials.values())
        for name, one in held.items()
        if any(goes_to(injection.host, one.hosts) for injection in credential.inject)
    ]
    if not found:
        return None, None
    _, _, name, credential = min(found, key=lambda each: each[:3])
    return name, credential


def goes_to(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether `host` is one of `hosts`, or below one of the form *.example.com."""
    return any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in hosts)


def in_home(path: str, agent: Agent) -> str:
    """A path of a definition in the guest; ~ is the home of the user that runs the agent."""
    return home_of(agent) + path[1:] if path.startswith("~/") else path


def _files(seeds: tuple[Seed, ...], words: Mapping[str, str], agent: Agent) -> Iterator[tuple[str, int, str]]:
    """One file for each path. What several seeds say of one JSON file is merged; the last one has the last word."""
    merged: dict[str, Any] = {}
    modes: dict[str, int] = {}
    for seed in seeds:
        path = in_home(seed.path, agent)
        modes[path] = int(seed.mode, 8)
        if seed.text is not None:
            merged[path] = fill(seed.text, words)
        else:
            merged[path] = _merge(merged.get(path, {}), fill(seed.json_, words))
    for path, content in merged.items():
        yield path, modes[path], content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"


def _merge(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: _merge(old.get(key), value) for key, value in new.items()}}
