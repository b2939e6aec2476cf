"""What the user allows or denies while the sandbox runs. It is in no file: it ends with the sandbox, or at its time.

The rules are judged beside those of the file, and a rule that denies beats every rule that allows, as within the file.
Of what the user says about one name, the last word counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.decoding import decode
from engine.errors import EngineError
from engine.gateway.journal import JournalLine
from engine.gateway.rules import WEB_PORTS, Rule
from engine.guest.guest import Guest
from engine.state.instances import load_instance, save_instance
from engine.state.layout import Layout
from vmm.channel.stream import LocalStream

MOST = 200  # at once
LONGEST_S = 365 * 86400.0
FILES_S = 60.0


@dataclass(frozen=True)
class TemporaryEndpoint:
    """One name that is allowed or denied for now.

    `name` is how the user writes it: HOST, HOST:PORT, *.DOMAIN or a group, and `rules` what it stands for. `for_s`: it
    ends by itself. `saved`: the file has it, too. `files` are (path, mode, text) for the guest's package clients.
    """

    name: str
    deny: bool
    rules: tuple[Rule, ...]
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    for_s: float | None = None
    saved: bool = False
    files: tuple[tuple[str, int, str], ...] = ()

    @property
    def is_conditional(self) -> bool:
        return bool(self.methods or self.paths)

    @property
    def command(self) -> str:
        """What the user says to have it; the rules have it as their origin."""
        return f"sandbox {'deny' if self.deny else 'allow'} {self.name}"

    def is_same(self, other: TemporaryEndpoint) -> bool:
        return (self.name, self.deny, self.methods, self.paths) == (other.name, other.deny, other.methods, other.paths)

    def is_undone_by(self, word: TemporaryEndpoint) -> bool:
        """Whether a later word takes the place of this one."""
        if self.is_same(word):
            return True
        return self.name == word.name and self.deny != word.deny and not word.is_conditional


@dataclass(frozen=True)
class SaidBefore:
    """What the user said before the sandbox was paused. `until_s`: it ends then, in seconds since 1970."""

    endpoint: TemporaryEndpoint
    until_s: float | None = None

    @property
    def holds(self) -> bool:
        return self.until_s is None or self.until_s > time.time()


@dataclass
class _Held:
    endpoint: TemporaryEndpoint
    until: datetime | None = None  # for people; the timer decides
    timer: asyncio.TimerHandle | None = None

    def to_json(self) -> dict[str, Any]:
        one = self.endpoint
        until = self.until.isoformat(timespec="seconds").replace("+00:00", "Z") if self.until else None
        lists = {"methods": list(one.methods), "paths": list(one.paths)}
        return {"name": one.name, "deny": one.deny, **lists, "until": until, "saved": one.saved}


class TemporaryRules:
    """Those of the sandbox `name` of this process. `arm` gives the gateway a certificate authority if it has none."""

    def __init__(self, layout: Layout, name: str, guest: Guest, arm: Callable[[], Awaitable[None]]) -> None:
        self._layout = layout
        self._name = name
        self._guest = guest
        self._gateway = guest.gateway
        self._arm = arm
        self._held: list[_Held] = []
        self._gateway.accept_temporary()

    async def handle(self, request: dict[str, Any], stream: LocalStream) -> dict[str, Any]:
        """The operation `temporary`: {endpoint: a TemporaryEndpoint}, or {end: NAME, deny} to take back what was said.

        The answer has `temporary` (all that is held now), `already` (the place of the rule of the file that allows it,
        then nothing is held), `ended` (how many were taken back) and `cut` (how many connections were). Raises
        EngineError where the file denies the name, and for a port that this machine has no way to.
        """
        if "end" in request:
            ended = self._take_back(str(request["end"]), bool(request.get("deny")))
            cut = self._apply()
            return {"already": None, "ended": ended, "cut": cut, "temporary": self.rows()}
        already, cut = await self._hold(decode(TemporaryEndpoint, request.get("endpoint")))
        return {"already": already, "ended": 0, "cut": cut, "temporary": self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        return [held.to_json() for held in self._held]

    @property
    def said(self) -> list[SaidBefore]:
        """All of it, for `hold_again`."""
        return [SaidBefore(held.endpoint, held.until.timestamp() if held.until else None) for held in self._held]

    async def hold_again(self, said: Iterable[SaidBefore]) -> None:
        """What was `said` when the sandbox was paused, but for what has ended since. Raises EngineError."""
        # What is denied comes first: the gateway never knows less of that than the user has said.
        for one in sorted(said, key=lambda each: not each.endpoint.deny):
            if one.holds:
                left_s = None if one.until_s is None else one.until_s - time.time()
                await self._hold(replace(one.endpoint, for_s=left_s))

    def revise(self) -> None:
        """The endpoints of the file have changed: it speaks for what was saved, and what it denies is not allowed."""
        filed = self._gateway.filed.rules
        for held in list(self._held):
            one = held.endpoint
            if one.saved:
                self._drop(held, "the file speaks for it now")
            elif not one.deny and (place := _denied(one.rules, filed)):
                self._drop(held, f"{place} denies it now")
        self._apply()

    async def _hold(self, one: TemporaryEndpoint) -> tuple[str | None, int]:
        self._check(one)
        if any(rule.looks_inside for rule in one.rules):
            await self._arm()
        if one.files:
            files = [{"path": path, "mode": mode, "content": text} for path, mode, text in one.files]
            await self._guest.channel.call("identity", timeout_s=FILES_S, files=files)
        self._check(one)  # again, after the waiting
        undone = [held for held in self._held if held.endpoint.is_undone_by(one)]
        for held in undone:
            self._drop(held, None if held.endpoint.is_same(one) else f"`{one.command}` takes its place")
        filed = self._gateway.filed.rules
        already = None if one.deny else _allowed(one.rules, filed)
        if already is None:
            held = _Held(one)
            if one.for_s is not None:
                held.until = datetime.now(UTC) + timedelta(seconds=one.for_s)
                held.timer = asyncio.get_running_loop().call_later(one.for_s, self._expire, held)
            self._held.append(held)
            self._note(one, "until the sandbox ends" if held.until is None else f"for {one.for_s:g} s")
        return already, self._apply()

    def _check(self, one: TemporaryEndpoint) -> None:
        """Raises EngineError for what cannot be held."""
        if not one.rules or any(rule.deny != one.deny or rule.injections for rule in one.rules):
            raise EngineError(f"{one.name}: this is no temporary endpoint")
        if one.for_s is not None and not 0 < one.for_s <= LONGEST_S:
            raise EngineError(f"{one.name}: the time must be between a moment and a year", exit_code=2)
        if len(self._held) >= MOST and not any(held.endpoint.is_undone_by(one) for held in self._held):
            raise EngineError(f"{MOST} endpoints are allowed or denied for now already", hint="--end takes one back")
        self._check_certificate(one)
        if one.deny:
            return
        if place := _denied(one.rules, self._gateway.filed.rules):
            hint = "a rule that denies beats every rule that allows: change it there, then `sandbox up`"
            raise EngineError(f"{one.name} is denied by {place}", hint=hint)
        standing = [held.endpoint for held in self._held if held.endpoint.deny and not held.endpoint.is_undone_by(one)]
        for other in standing:
            if _denied(one.rules, other.rules):
                hint = f"`sandbox deny --end '{other.name}'` takes that back"
                raise EngineError(f"{one.name} is denied for now by `{other.command}`", hint=hint)
        unheard = sorted({rule.port for rule in one.rules if rule.port} - set(self._gateway.sockets))
        if unheard:
            ports = ", ".join(map(str, unheard))
            hint = f"`sandbox add endpoint {one.name}`, then `sandbox up --recreate`"
            raise EngineError(f"this machine was started without a way to port {ports}", hint=hint)

    def _check_certificate(self, one: TemporaryEndpoint) -> None:
        """The first certificate of a sandbox comes too late for its containers, as for a live `up`."""
        if self._gateway.authority is not None or not any(rule.looks_inside for rule in one.rules):
            return
        record = load_instance(self._layout, self._name)
        if record is not None and record.services:
            raise EngineError(
                f"{one.name}: methods and paths need a certificate that containers trust from their start on only",
                hint=f"leave them out, or `sandbox add endpoint {one.name} --method ...` and `sandbox up --recreate`",
            )

    def _take_back(self, name: str, deny: bool) -> int:
        found = [held for held in self._held if (held.endpoint.name, held.endpoint.deny) == (name, deny)]
        for held in found:
            self._drop(held, "taken back")
        return len(found)

    def _expire(self, held: _Held) -> None:
        self._drop(held, "its time is over")
        self._apply()

    def _drop(self, held: _Held, why: str | None) -> None:
        self._held.remove(held)
        if held.timer is not None:
            held.timer.cancel()
        if why is not None:
            self._note(held.endpoint, f"no longer: {why}")

    def _apply(self) -> int:
        cut = self._gateway.set_temporary(rule for held in self._held for rule in held.endpoint.rules)
        with contextlib.suppress(EngineError, OSError):  # such as a full disk: `ls` is behind then, the gateway is not
            if (record := load_instance(self._layout, self._name)) is not None:
                save_instance(self._layout, record._replace(temporary=self.rows()))
        return cut

    def _note(self, one: TemporaryEndpoint, words: str) -> None:
        """A line in the journal: what was refused a minute ago and is allowed now should not puzzle its reader."""
        first = one.rules[0]
        line = JournalLine(port=first.port or WEB_PORTS[1], verdict="changed", host=first.host, rule=one.command)
        line.reason = f"{'denied' if one.deny else 'allowed'} {words}"
        self._gateway.journal.write(line)


def temporary_endpoint(
    name: str,
    rules: Iterable[Rule],
    *,
    deny: bool = False,
    methods: Iterable[str] = (),
    paths: Iterable[str] = (),
    **rest: Any,
) -> TemporaryEndpoint:
    """One whose rules say where they come from."""
    one = TemporaryEndpoint(name, deny, (), tuple(methods), tuple(paths), **rest)
    marked = (replace(rule, deny=deny, origin=one.command, place="") for rule in rules)
    return replace(one, rules=tuple(marked))


def _denied(rules: Iterable[Rule], by: Iterable[Rule]) -> str | None:
    """The first unconditional deny of `by` that speaks of any port of any of the rules: its place, or what it is."""
    denying = [rule for rule in by if rule.deny and not rule.is_conditional]
    for rule in rules:
        for other in denying:
            if any(_includes(other, rule, port) for port in _ports(rule)):
                return other.place or other.label
    return None


def _allowed(rules: Iterable[Rule], by: Iterable[Rule]) -> str | None:
    """The place of one of the rules of `by` that, without a condition, allow all of the rules; None if they do not."""
    found = None
    allowing = [rule for rule in by if not rule.deny and not rule.is_conditional]
    for rule in rules:
        for port in _ports(rule):
            found = next((other for other in allowing if _includes(other, rule, port)), None)
            if found is None:
                return None
    return (found.place or found.label) if found else None


def _ports(rule: Rule) -> tuple[int, ...]:
    return WEB_PORTS if rule.port is None else (rule.port,)


def _includes(one: Rule, other: Rule, port: int) -> bool:
    """Whether `one` speaks of every name of `other` on this port."""
    if port not in _ports(one):
        return False
    if other.host.startswith("*."):
        return one.host.startswith("*.") and other.host[1:].endswith(one.host[1:])
    return one.matches(other.host, port)


def to_request(one: TemporaryEndpoint) -> Mapping[str, Any]:
    """The request of the operation `temporary`."""
    return {"endpoint": asdict(one)}
