"""What every connection of one gateway shares: the policy of the moment, the journal, the way out, who is running."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from engine.gateway.body_checks import Reply
from engine.gateway.errors import GatewayError
from engine.gateway.guest_asks import GuestAsks
from engine.gateway.h2room import Room
from engine.gateway.injection import Secrets
from engine.gateway.journal import Journal, JournalLine
from engine.gateway.limits import Limits
from engine.gateway.needles import Given
from engine.gateway.paths import BadTarget, normal_path
from engine.gateway.policy import Decision, Policy
from engine.gateway.proxies import Proxies
from engine.gateway.rules import WEB_PORTS
from engine.gateway.upstream import (
    AddressRefused,
    Connect,
    Resolver,
    Streams,
    UpstreamUnreachable,
    open_local,
    open_upstream,
)
from engine.gateway.waiting import Waiting
from engine.gateway.whole import Held

if TYPE_CHECKING:
    from engine.gateway.authority import Authority

Keep = Callable[[Mapping[str, str]], Awaitable[None]]
"""Keeps new values of secrets (name -> value), which count from the call on."""

_MOST_UNNAMED = 50  # the guest chooses them


class Refused(GatewayError):
    """The guest asked for something it may not have. `decision` is set where the policy said so.

    `reply` says it in the words of the client's protocol.
    """

    def __init__(
        self, brief: str, *, decision: Decision | None = None, hint: str | None = None, reply: Reply | None = None
    ) -> None:
        super().__init__(brief, hint=hint)
        self.decision = decision
        self.reply = reply


class Cuttable(Protocol):
    """What serves a request: a task, or a stream among many."""

    def cancel(self) -> object: ...


@dataclass
class Context:
    """One gateway's shared state; owned by the Gateway."""

    policy: Policy
    journal: Journal
    resolver: Resolver
    connect: Connect
    connect_local: Connect  # to a service of this host that is declared
    limits: Limits
    secrets: Secrets = lambda name: None
    keep: Keep | None = None
    authority: Authority | None = None
    outer: ssl.SSLContext | None = None  # for connections to servers; made when the first is
    proxies: Proxies = field(default_factory=Proxies)
    live: dict[JournalLine, Cuttable] = field(default_factory=dict)
    unnamed: dict[tuple[str, int], None] = field(default_factory=dict)  # hosts and ports that no rule speaks of
    changeable: bool = False  # whether `sandbox allow` reaches this gateway
    waiting: Waiting = field(default_factory=Waiting)
    asks: GuestAsks = field(default_factory=GuestAsks)
    held: Held = field(default_factory=Held)
    given: Given = field(default_factory=Given)
    room: Room = field(default_factory=Room)
    turns: dict[str, asyncio.Lock] = field(default_factory=dict)  # who renews which secret

    def turn(self, secret: str) -> asyncio.Lock:
        """What is held by the one who renews this secret."""
        return self.turns.setdefault(secret, asyncio.Lock())

    @contextmanager
    def recording(self, entry: JournalLine) -> Iterator[None]:
        """Own one journal line: it is written once, when settled or at the end, also on cancellation."""
        task = asyncio.current_task()
        assert task is not None
        self.live[entry] = task
        try:
            yield
        except asyncio.CancelledError:
            if entry in self.live:
                entry.reason = f"{entry.reason}; cut off" if entry.reason else "cut off"
            raise
        finally:
            self.settle(entry)

    def settle(self, entry: JournalLine) -> None:
        """Write the line now, unless it has been written."""
        if self.live.pop(entry, None) is not None:
            self.journal.write(entry)

    def write(self, entry: JournalLine) -> None:
        """Write a line that nothing serves any more."""
        self.live.pop(entry, None)
        self.journal.write(entry)

    async def ask(self, entry: JournalLine) -> None:
        """Before the entry's host is judged: where no rule speaks of it and somebody can be asked, wait for the end."""
        entry.asked = await self.waiting.hold(entry.host or "", entry.port, self.policy)

    def judge(self, entry: JournalLine) -> Decision:
        """Decide about the entry's host and port, and note the verdict. Raises Refused."""
        return self._note(entry, self._judge_again(entry, self.policy))

    def judge_request(self, entry: JournalLine, overrides: Iterable[str] = ()) -> Decision:
        """The same about the entry's method and target as well."""
        decision = self._judge_again(entry, self.policy, overrides)
        entry.path = _for_people(decision.path or entry.path)
        return self._note(entry, decision)

    def _judge_again(self, entry: JournalLine, policy: Policy, overrides: Iterable[str] = ()) -> Decision:
        if entry.method is None:
            return policy.decide(entry.host or "", entry.port, raw=entry.protocol == "tcp")
        return policy.judge(entry.host or "", entry.port, entry.method, entry.target or "", overrides)

    def _note(self, entry: JournalLine, decision: Decision) -> Decision:
        entry.rule = decision.rule.label if decision.rule else None
        entry.place = (decision.rule.place or None) if decision.rule else None
        if entry.asked and decision.rule is None:
            decision = replace(decision, reason=f"{decision.reason}; {entry.asked}")
        entry.reason = decision.reason
        if not decision.allowed:
            if entry.host and decision.rule is None and len(self.unnamed) < _MOST_UNNAMED:
                self.unnamed[entry.host, entry.port] = None
            if entry.host and decision.rule is None and self.changeable:
                decision = replace(decision, command=f"sandbox allow {_name(entry.host, entry.port)}")
            raise Refused(decision.reason, decision=decision)
        entry.verdict = "allowed"
        return decision

    async def dial(self, entry: JournalLine, decision: Decision) -> Streams:
        """Connect to the host that the decision allowed. Raises Refused and UpstreamUnreachable."""
        try:
            rule = decision.rule
            if rule is not None and rule.is_local:
                return await open_local(entry.port, connect=self.connect_local, limits=self.limits)
            host = decision.reached(entry.host or "")
            if (proxy := self.proxies.of(host, entry.protocol)) is not None:
                return await self.proxies.open(proxy, host, entry.port, self.limits, self.trust)
            return await open_upstream(
                host,
                entry.port,
                private=rule is not None and rule.private,
                resolver=self.resolver,
                connect=self.connect,
                limits=self.limits,
            )
        except AddressRefused as error:
            raise Refused(error.brief) from error
        except UpstreamUnreachable as error:
            self.note_failure(entry, error)
            raise

    async def trust(self) -> ssl.SSLContext:
        """What verifies servers. Made with the first use, in 50 ms."""
        from engine.gateway.outer import verifying_context

        if self.outer is None:
            self.outer = await asyncio.to_thread(verifying_context)
        return self.outer

    def note_failure(self, entry: JournalLine, error: UpstreamUnreachable) -> None:
        entry.verdict = "failed"
        entry.reason = f"{error.brief}: {error.details}" if error.details else error.brief

    def require_authority(self, policy: Policy) -> None:
        """Raises GatewayError for a policy that looks inside TLS where there is nothing to do it with."""
        if policy.looks_inside and self.authority is None:
            rule = next(rule for rule in policy.rules if rule.looks_inside)
            raise GatewayError(f"{rule.label} looks inside TLS, and the sandbox has no certificate authority for that")

    def apply(self, policy: Policy) -> int:
        """Judge by another policy from now on, and cut what it no longer allows. Raises GatewayError, changing nothing.

        Returns how many connections and requests were cut.
        A spliced connection to a host that the policy looks into is cut, too: nobody could see what goes through it.
        """
        self.require_authority(policy)
        self.policy = policy
        cut = 0
        for entry, task in list(self.live.items()):
            if entry.verdict != "allowed":
                continue
            hidden = entry.how == "splice" and policy.looks_into(entry.host or "", entry.port)
            if hidden or not self._judge_again(entry, policy).allowed:
                entry.reason = "no longer allowed"
                task.cancel()
                cut += 1
        self.waiting.review(policy)
        self.asks.review(policy)
        return cut


def _name(host: str, port: int) -> str:
    return host if port in WEB_PORTS else f"{host}:{port}"


def _for_people(path: str | None) -> str | None:
    """The path in normal form, where it has one. What goes upstream is not changed."""
    try:
        return path and normal_path(path)
    except BadTarget:
        return path
