"""`allow` and `deny`: changing what a running sandbox may reach, without its file, or with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.lifecycle.edit import Edit, Edited
    from engine.state.instances import Instance
    from engine.state.layout import Layout
    from engine.supervisor.temporary import TemporaryEndpoint
    from sandboxfile import Endpoint


@dataclass(frozen=True)
class Saying:
    """What the user says about one name: HOST, HOST:PORT, *.DOMAIN or a group. `for_s` None: until the sandbox ends."""

    name: str
    deny: bool = False
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    for_s: float | None = None
    save: bool = False

    def entry(self) -> Any:
        """As an entry of `endpoints`: a short form where that can say it all. Raises EngineError (exit code 2)."""
        endpoint = self.endpoint()
        if not (self.deny or self.methods or self.paths):
            return self.name
        entry: dict[str, Any] = {"group": endpoint.group} if endpoint.group else {"host": endpoint.host}
        if endpoint.port is not None:
            entry["port"] = endpoint.port
        lists = {"methods": list(self.methods), "paths": list(self.paths)}
        entry |= {key: value for key, value in lists.items() if value}
        return {**entry, "deny": True} if self.deny else entry

    def endpoint(self) -> Endpoint:
        """As the file's language has it. Raises EngineError (exit code 2) for what is no endpoint."""
        from sandboxfile.checks.shape import check_shape

        given = {"methods": list(self.methods), "paths": list(self.paths)}
        # The word first, by itself: a short form has no room for the rest.
        found = check_shape({"version": "1", "endpoints": [self.name]})
        if not isinstance(found, list):
            [endpoint] = found.endpoints
            plain = endpoint.model_dump(exclude_none=True, exclude_defaults=True)
            found = check_shape({"version": "1", "endpoints": [{**plain, **given, "deny": self.deny}]})
        if isinstance(found, list):
            raise EngineError(f"{self.name}: {found[0].message}", hint=found[0].hint, exit_code=2)
        [endpoint] = found.endpoints
        return endpoint


@dataclass(frozen=True)
class Said:
    """What became of a saying.

    `already`: the place in the file that allows the name, so that nothing had to be changed. `cut` connections were
    ended. `temporary` is all that is allowed or denied for now. `edit` is the change of the file, when it was saved.
    """

    name: str
    sandbox: str
    already: str | None
    cut: int
    temporary: tuple[dict[str, Any], ...]
    edited: Edited | None = None
    edit: Edit | None = None


async def say(layout: Layout, name: str | None, saying: Saying) -> Said:
    """Tell the supervisor of a running sandbox; it counts from the next request on.

    Waits seconds for a named group, whose host's client is asked. Raises EngineError and GuestError: nothing has been
    changed then, neither in the sandbox nor in its file.
    """
    from engine.lifecycle.selection import choose_running
    from engine.supervisor.temporary import to_request
    from vmm.channel.client import connect

    instance, control = choose_running(layout, name)
    one = _temporary(layout, instance, saying)
    edited = edit = None
    if saying.save:
        edited = _file_of(instance)
        edited.add([_addition(instance, saying)], write=False)  # what cannot be saved is not allowed, either
    async with await connect(control) as client:
        answer = await client.call("temporary", timeout_s=_ANSWER_S, **to_request(one))
    if edited is not None:
        edit = edited.add([_addition(instance, saying)])
    rows = tuple(answer["temporary"])
    return Said(saying.name, instance.name, answer["already"], answer["cut"], rows, edited, edit)


async def take_back(layout: Layout, name: str | None, word: str, *, deny: bool) -> Said:
    """What was said about a name for now is not said any more. Raises EngineError, also when nothing was."""
    from engine.lifecycle.selection import choose_running
    from vmm.channel.client import connect

    instance, control = choose_running(layout, name)
    async with await connect(control) as client:
        answer = await client.call("temporary", timeout_s=_ANSWER_S, end=word, deny=deny)
    if not answer["ended"]:
        held = [row["name"] for row in answer["temporary"] if row["deny"] == deny]
        hint = f"there is: {', '.join(held)}" if held else None
        raise EngineError(f"{word} is not {'denied' if deny else 'allowed'} for now in {instance.name}", hint=hint)
    return Said(word, instance.name, None, answer["cut"], tuple(answer["temporary"]))


_ANSWER_S = 90.0  # the guest may have to take a certificate first


def _temporary(layout: Layout, instance: Instance, saying: Saying) -> TemporaryEndpoint:
    """Raises EngineError for what the sandbox's file has to say, since `up` asks the user about it."""
    from engine.resolve.endpoints import Registries, client_files
    from engine.resolve.registries import credentials_of
    from engine.state.configuration import load_running
    from engine.supervisor.temporary import temporary_endpoint

    endpoint = saying.endpoint()
    if endpoint.as_ is not None or endpoint.host == "localhost":
        raise EngineError(f"{saying.name}: a service of this host has to be in the file, where `up` asks about it")
    registries = Registries()
    if endpoint.group is not None:
        if not saying.deny and (found := credentials_of([endpoint.group])):
            raise EngineError(
                f"the {found[0].origin} holds what looks like a credential, and the guest would get it",
                hint=f"`sandbox add endpoint {endpoint.group}`, then `sandbox up`, which asks about it",
            )
        running = load_running(layout, instance.name)
        if running is not None and Path(running.image).is_dir():
            registries = Registries.of_image(Path(running.image))
    return temporary_endpoint(
        saying.name,
        registries.policy([endpoint]).rules,
        deny=saying.deny,
        methods=saying.methods,
        paths=saying.paths,
        for_s=saying.for_s,
        saved=saying.save,
        files=() if saying.deny else client_files([endpoint]),
    )


def _file_of(instance: Instance) -> Edited:
    from engine.lifecycle.edit import Edited

    return Edited.choose(Path(instance.file))


def _addition(instance: Instance, saying: Saying) -> Any:
    return endpoint_additions(instance, [saying.entry()])[0]


def endpoint_additions(instance: Instance, entries: Sequence[Any]) -> list[Any]:
    """Entries for the endpoints of a sandbox's file: those of its agent, where the file has several."""
    from sandboxfile.writing.additions import Addition

    place = ("agents", instance.agent_name, "endpoints") if instance.agent_name else ("endpoints",)
    return [Addition(place, entry) for entry in entries]
