"""What the guest may reach and ask for. Default deny; deny beats allow; a pure function of name, port and request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from engine.gateway.errors import GatewayError
from engine.gateway.names import BadName, canonical_name
from engine.gateway.paths import BadTarget, Target, allows, check_pattern, denies, methods_in_query, read_target

WEB_PORTS = (80, 443)
LOCALHOST = "localhost"

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")  # a token of RFC 9110 without lower case
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")


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
    `port` None means 80 and 443. `origin` says where the rule comes from, for messages, `place` where in which file.
    `private` lets the name resolve into a private network (never to loopback, link-local or metadata): for mirrors that
    the *host's own* configuration names, not for what a file from a repository says.
    `methods` (upper case) and `paths` (patterns of paths.py) narrow the rule; empty: all. `intercept` asks for a look
    inside TLS, which methods, paths and injections need anyway. `foreign_credentials` lets requests carry credentials
    that are not ours to a host that gets a secret of ours.
    `raw` is for protocols that name no host (`protocol: tcp`): the name has an address of its own in the guest, and
    nothing else leads there. `target` is the host behind a name that only the guest knows; `localhost` is this very
    host. `bypass` splices TLS although other rules would look inside. `ech` lets a ClientHello hide its server's name.
    A deny is for every protocol at its port. Raises GatewayError when it makes no sense.
    """

    host: str
    port: int | None = None
    deny: bool = False
    origin: str = ""
    private: bool = False
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    injections: tuple[Injection, ...] = ()
    intercept: bool = False
    place: str = ""
    foreign_credentials: bool = False
    raw: bool = False
    target: str = ""
    bypass: bool = False
    ech: bool = False

    def __post_init__(self) -> None:
        where = f"{self.origin}: " if self.origin else ""
        wildcard = self.host.startswith("*.")
        try:
            name = canonical_name(self.host[2:] if wildcard else self.host)
            target = canonical_name(self.target) if self.target else ""
            self._check_conditions()
        except (BadName, BadTarget) as error:
            raise GatewayError(f"{where}{error.brief}", error.details, error.hint) from error
        if wildcard and "." not in name and not self.deny:
            raise GatewayError(f"{where}'*.{name}' is too wide", hint="name at least two labels, such as *.example.com")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise GatewayError(f"{where}port {self.port} is not between 1 and 65535")
        if (self.raw or target) and not self.deny and (wildcard or self.port is None):
            raise GatewayError(f"{where}{self.host} needs one exact name and a port")
        if (self.raw or self.bypass) and self.looks_inside:
            raise GatewayError(f"{where}{self.host} cannot be passed on untouched and looked into")
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "host", f"*.{name}" if wildcard else name)

    def _check_conditions(self) -> None:
        for pattern in (*self.paths, *(path for injection in self.injections for path in injection.paths)):
            check_pattern(pattern)
        for method in self.methods:
            if not _METHOD.fullmatch(method):
                raise BadTarget(f"{method[:80]!r} is no method in upper case")
        for name in (name for injection in self.injections for name in (injection.header, *injection.drop)):
            if not _HEADER.fullmatch(name):
                raise BadTarget(f"{name[:80]!r} is no header's name in lower case")

    @property
    def looks_inside(self) -> bool:
        """Whether TLS to this host is intercepted; without, it is spliced."""
        return bool(self.methods or self.paths or self.injections or self.intercept)

    @property
    def is_conditional(self) -> bool:
        """Whether it speaks of some requests to its host only."""
        return bool(self.methods or self.paths)

    @property
    def has_paths(self) -> bool:
        return bool(self.paths or any(injection.paths for injection in self.injections))

    @property
    def is_local(self) -> bool:
        """Whether a service of this very host is behind it."""
        return self.target == LOCALHOST

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.origin or self.host

    def matches(self, host: str, port: int) -> bool:
        """Whether the rule speaks about this host (in canonical form) and port."""
        if port not in (WEB_PORTS if self.port is None else (self.port,)):
            return False
        # host[1:] of "*.example.com" is ".example.com", which "example.com" does not end with.
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host

    def covers(self, methods: Iterable[str], target: Target) -> bool:
        """Whether an allow covers a request: all methods that a server may take it for, all readings of its path."""
        return all(self._names(method) for method in methods) and (not self.paths or allows(self.paths, target))

    def forbids(self, methods: Iterable[str], target: Target) -> bool:
        """Whether a deny speaks of a request: of any of its methods, and any reading of its path."""
        return any(self._names(method) for method in methods) and (not self.paths or denies(self.paths, target))

    def _names(self, method: str) -> bool:
        return not self.methods or method in self.methods or (method == "HEAD" and "GET" in self.methods)


@dataclass(frozen=True)
class Decision:
    """What a policy says about one host and port, or one request, and because of which rule (None: because of none).

    Of a request that is allowed: `target` is what is sent on, `path` its path for the journal, `injections` what it
    gets. `status` is what a refused one is answered; `needed` (method, path) what the rule would have to name.
    """

    allowed: bool
    rule: Rule | None
    reason: str
    target: str = ""
    path: str = ""
    injections: tuple[Injection, ...] = ()
    status: int = 403
    needed: tuple[str, str] | None = None

    def reached(self, host: str) -> str:
        """The host that is really meant by `host`, which may be a name that only the guest knows."""
        return (self.rule.target if self.rule else "") or host


@dataclass(frozen=True)
class Policy:
    """An immutable set of rules; any iterable of them will do."""

    rules: Iterable[Rule] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))

    @property
    def looks_inside(self) -> bool:
        """Whether any rule needs an authority."""
        return any(rule.looks_inside for rule in self.rules)

    def matching(self, host: str, port: int, *, raw: bool = False) -> tuple[Rule, ...]:
        """The rules that speak about this host (in canonical form) and port, in their order.

        Those that deny speak of every protocol, and also of what is behind a name that only the guest knows. Of a host
        that is bypassed, those that allow it after a look inside say nothing: it gets none of their secrets, either.
        """
        found = [rule for rule in self.rules if rule.matches(host, port) and (rule.deny or rule.raw == raw)]
        if any(rule.bypass for rule in found):
            found = [rule for rule in found if rule.deny or not rule.looks_inside]
        targets = {rule.target for rule in found if rule.target}
        if not targets:
            return tuple(found)
        return tuple(
            rule
            for rule in self.rules
            if rule in found or (rule.deny and any(rule.matches(target, port) for target in targets))
        )

    def decide(self, host: str, port: int, *, raw: bool = False) -> Decision:
        """Judge a name as the guest wrote it: may it be reached at all? Never raises and looks nothing up.

        `raw`: by the address of its own that the name has in the guest, and with any protocol.
        """
        try:
            name = canonical_name(host)
        except BadName as error:
            return Decision(False, None, error.brief)
        matching = self.matching(name, port, raw=raw)
        for rule in matching:
            if rule.deny and (raw or not rule.is_conditional):
                return Decision(False, rule, f"{name}:{port} is denied by {rule.label}")
        if raw and (inside := next((rule for rule in self.matching(name, port) if rule.looks_inside), None)):
            return Decision(False, inside, f"{inside.label} looks into what goes to {name}:{port}")
        for rule in matching:
            if not rule.deny:
                return Decision(True, rule, f"{name}:{port} is allowed by {rule.label}")
        return Decision(False, None, f"no endpoint names {name}:{port}")

    def judge(self, host: str, port: int, method: str, target: str, overrides: Iterable[str] = ()) -> Decision:
        """Judge one request to a host: `target` as it came, in origin form, with its query; never raises.

        `overrides` are methods that headers name besides; each must be allowed, too, where a rule names methods.
        """
        reached = self.decide(host, port)
        if not reached.allowed:
            return reached
        name = canonical_name(host)
        matching = self.matching(name, port)
        try:
            read = read_target(target, strict=any(rule.has_paths for rule in matching))
        except BadTarget as error:
            return Decision(False, reached.rule, error.brief, status=400)
        if not _METHOD.fullmatch(method) and any(rule.looks_inside for rule in matching):
            return Decision(False, reached.rule, "the method is not in upper case", path=read.path, status=400)
        methods = list(dict.fromkeys([method, *_upper([*overrides, *methods_in_query(read.query)])]))
        asked = f"{'/'.join(methods)} {name}:{port}{read.path}"
        for rule in matching:
            if rule.deny and rule.forbids(methods, read):
                return Decision(False, rule, f"{asked} is denied by {rule.label}", path=read.path)
        allowing = [rule for rule in matching if not rule.deny and rule.covers(methods, read)]
        if not allowing:
            reason = f"{reached.rule.label if reached.rule else name} does not allow {asked}"
            return Decision(False, reached.rule, reason, path=read.path, needed=(method, read.path))
        rule = allowing[0]
        reason = f"{name}:{port} is allowed by {rule.label}"
        injections = tuple(_injections(allowing, read))
        return Decision(True, rule, reason, target=read.wire, path=read.path, injections=injections)

    def looks_into(self, host: str, port: int) -> bool:
        """Whether some rule about this host (in canonical form) has to look inside TLS.

        Those that deny a part of a host do even where it is bypassed: nobody could see that part in what is spliced.
        """
        return any(rule.looks_inside for rule in self.matching(host, port))

    def may_hide(self, host: str, port: int) -> bool:
        """Whether a ClientHello for this host (in canonical form) may carry an encrypted one."""
        return any(rule.ech for rule in self.matching(host, port))

    def foreign_placeholders(self, host: str, port: int) -> frozenset[str]:
        """The placeholders of secrets that this host does not get."""
        ours = {text for rule in self.matching(host, port) for text in _placeholders(rule)}
        return frozenset(text for rule in self.rules for text in _placeholders(rule)) - ours

    def ports(self) -> tuple[int, ...]:
        """The guest ports that need a listener, sorted. 80 and 443 always: a refusal there must be heard."""
        ports = (rule.port for rule in self.rules if rule.port and not rule.deny and not rule.raw)
        return tuple(sorted({*WEB_PORTS, *ports}))

    def raw_endpoints(self) -> tuple[tuple[str, int], ...]:
        """(host, port) of what needs an address of its own in the guest, in the order of the rules."""
        raw = ((rule.host, rule.port) for rule in self.rules if rule.raw and rule.port and not rule.deny)
        return tuple(dict.fromkeys(raw))


def _upper(methods: Iterable[str]) -> Iterator[str]:
    """Methods that a header or query names; those that are empty name none."""
    return (method.strip().upper() for method in methods if method.strip())


def _injections(rules: Iterable[Rule], target: Target) -> Iterator[Injection]:
    """One for each header: the first rule that has one decides."""
    headers: set[str] = set()
    for injection in (injection for rule in rules for injection in rule.injections):
        if injection.header not in headers and (not injection.paths or allows(injection.paths, target)):
            headers.add(injection.header)
            yield injection


def _placeholders(rule: Rule) -> Iterator[str]:
    return (text for injection in rule.injections for text in injection.placeholders if text)
