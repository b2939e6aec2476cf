"""Which hosts and ports the guest may reach. Default deny; deny beats allow; a pure function of name and port."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from engine.gateway.errors import GatewayError
from engine.gateway.names import BadName, canonical_name

WEB_PORTS = (80, 443)


@dataclass(frozen=True)
class Injection:
    """What happens to a request that may carry a secret.

    `secret` is its name in the file, `header` the one it goes into (lower case). `form` raw: the value itself; bearer:
    `Bearer VALUE`; basic: base64 of `user:VALUE`. `drop` are rival headers, removed (lower case); `header` always is.
    `paths` are the only ones it is sent to; empty: all. `placeholders` are the texts that the guest holds instead.
    """

    secret: str
    header: str
    form: Literal["raw", "bearer", "basic"]
    user: str = ""
    drop: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One endpoint.

    `host` is a name or `*.` and a name of two labels or more; `*.example.com` does not match `example.com`.
    `port` None means 80 and 443. `origin` says where the rule comes from, for messages. `private` lets the name
    resolve into a private network (never to loopback, link-local or metadata): for mirrors that the *host's own*
    configuration names, not for what a file from a repository says. Raises GatewayError when it makes no sense.
    """

    host: str
    port: int | None = None
    deny: bool = False
    origin: str = ""
    private: bool = False

    def __post_init__(self) -> None:
        where = f"{self.origin}: " if self.origin else ""
        wildcard = self.host.startswith("*.")
        try:
            name = canonical_name(self.host[2:] if wildcard else self.host)
        except BadName as error:
            raise GatewayError(f"{where}{error.brief}", error.details, error.hint) from error
        if wildcard and "." not in name and not self.deny:
            raise GatewayError(f"{where}'*.{name}' is too wide", hint="name at least two labels, such as *.example.com")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise GatewayError(f"{where}port {self.port} is not between 1 and 65535")
        object.__setattr__(self, "host", f"*.{name}" if wildcard else name)

    def matches(self, host: str, port: int) -> bool:
        """Whether the rule speaks about this host (in canonical form) and port."""
        if port not in (WEB_PORTS if self.port is None else (self.port,)):
            return False
        # host[1:] of "*.example.com" is ".example.com", which "example.com" does not end with.
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host


@dataclass(frozen=True)
class Decision:
    """What a policy says about one host and port, and because of which rule (None: because of no rule)."""

    allowed: bool
    rule: Rule | None
    reason: str


@dataclass(frozen=True)
class Policy:
    """An immutable set of rules; any iterable of them will do."""

    rules: Iterable[Rule] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))

    def decide(self, host: str, port: int) -> Decision:
        """Judge a name as the guest wrote it; never raises and looks nothing up."""
        try:
            name = canonical_name(host)
        except BadName as error:
            return Decision(False, None, error.brief)
        matching = [rule for rule in self.rules if rule.matches(name, port)]
        for rule in matching:
            if rule.deny:
                return Decision(False, rule, f"{name}:{port} is denied by {rule.origin or rule.host}")
        for rule in matching:
            return Decision(True, rule, f"{name}:{port} is allowed by {rule.origin or rule.host}")
        return Decision(False, None, f"no endpoint names {name}:{port}")

    def ports(self) -> tuple[int, ...]:
        """The guest ports that need a listener, sorted. 80 and 443 always: a refusal there must be heard."""
        return tuple(sorted({*WEB_PORTS, *(rule.port for rule in self.rules if rule.port and not rule.deny)}))
