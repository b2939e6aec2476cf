"""Whether the agent of a sandbox has what it signs in with, and what there is to say where it has not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.agents import load_agent
from engine.agents.outfit import goes_to, secrets_of
from engine.errors import EngineError
from engine.resolve.secrets import used_secrets
from sandboxfile.names import GROUPS
from sandboxfile.presets.expansion import hosts_of

if TYPE_CHECKING:
    from engine.agents.definition import AgentDefinition, Credential
    from engine.lifecycle.credentials import Credentials
    from sandboxfile import Loaded


@dataclass(frozen=True)
class MissingCredential:
    """The agent of the sandbox `sandbox` cannot sign in.

    `looked` are the places that were looked at, in words; none where the file gives the agent no secret at all. `hint`
    has the one command, or the change of the file, that mends it.
    """

    sandbox: str
    agent: str
    brief: str
    looked: tuple[str, ...]
    hint: str

    def error(self) -> EngineError:
        """As an error, for who cannot do without: exit code 2, since nothing was begun."""
        return EngineError(self.brief, "\n".join(self.looked) or None, self.hint, exit_code=2)


def optional_secrets(loaded: Loaded) -> tuple[str, ...]:
    """The secrets of the file that its agent signs in with: a machine can start without them."""
    definition = _definition(loaded)
    return secrets_of(definition, used_secrets(loaded)) if definition is not None else ()


def missing_credential(name: str, loaded: Loaded, credentials: Credentials) -> MissingCredential | None:
    """What the agent of the sandbox `name` lacks; None where it lacks nothing that is known.

    An agent whose definition has no credentials signs in inside the machine. One that can reach other hosts than those
    that its credentials go to works with something else, such as a model on this host, and so does one whose credential
    stands in `agent.env`. A file that names no host at all has forgotten its agent's.
    """
    if (definition := _definition(loaded)) is None:
        return None
    for secret in secrets_of(definition, used_secrets(loaded)):
        if (error := credentials.missing.get(secret)) is not None:
            words = f"{definition.title} has no credential: {error.brief}"
            looked = tuple((error.details or "").splitlines())
            return MissingCredential(name, definition.name, words, looked, error.hint or "")
    if secrets_of(definition, used_secrets(loaded)):
        return None
    agent = loaded.sandbox.agent
    given = set(agent.env) if agent is not None else set()
    for credential, host in _without_secret(definition, loaded):
        if given & {*credential.source.env, *credential.env}:
            return None
        words = f"{definition.title} has no credential: the file lets it reach {host}, and gives it no secret for that"
        return MissingCredential(name, definition.name, words, (), _edit(credential, host))
    if any(endpoint.group not in GROUPS for endpoint in loaded.sandbox.endpoints) or given:
        return None
    for credential, host in _all_hosts(definition):
        words = f"{definition.title} cannot work: no endpoint of the file lets it reach its models, such as {host}"
        return MissingCredential(name, definition.name, words, (), _edit(credential, host))
    return None


def _edit(credential: Credential, host: str) -> str:
    """What to write into the file, so that the agent reaches `host` with this credential."""
    secret, variable = credential.secret, credential.source.env[0]
    return (
        f"write `- {{host: {host}, secret: {secret}}}` in `endpoints` and `{secret}: {{env: {variable}}}` in"
        f" `secrets`; `sandbox secret set {secret}` keeps a value"
    )


def _definition(loaded: Loaded) -> AgentDefinition | None:
    agent = loaded.sandbox.agent
    if agent is None or agent.use is None:
        return None
    return load_agent(agent.use)


def _all_hosts(definition: AgentDefinition) -> Iterator[tuple[Credential, str]]:
    """The kinds of credentials, with each host that they go to."""
    for credential in definition.credentials.values():
        yield from ((credential, injection.host) for injection in credential.inject)


def _without_secret(definition: AgentDefinition, loaded: Loaded) -> Iterator[tuple[Credential, str]]:
    """The kinds of credentials for hosts that the file allows, with such a host."""
    endpoints = [endpoint for endpoint in loaded.sandbox.endpoints if not endpoint.deny]
    allowed = [host for endpoint in endpoints for host in (endpoint.host, *hosts_of(endpoint)) if host is not None]
    return ((credential, host) for credential, host in _all_hosts(definition) if goes_to(host, tuple(allowed)))
