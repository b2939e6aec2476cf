"""One endpoint's rule: whom it speaks of, which requests, and what they get."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from engine.gateway.errors import GatewayError
from engine.gateway.lfs import LfsDownloads
from engine.gateway.names import BadName, canonical_name
from engine.gateway.paths import BadTarget, Target, allows, check_pattern, denies
from engine.gateway.pushes import Pushes

WEB_PORTS = (80, 443)
LOCALHOST = "localhost"
METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")  # a token of RFC 9110 without lower case

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")


@dataclass(frozen=True)
class Injection:
    """What happens to a request that may carry a secret.

    `secret` is its name in the file, `header` the one it goes into (lower case). `form` raw: the value itself; bearer:
    `Bearer VALUE`; basic: base64 of `user:VALUE`. `drop` are rival headers, removed (lower case); `header` always is.
    `paths` are the only ones it is sent to; empty: all. `placeholders` are the texts that the guest holds instead.
    `sigv4` (AWS): the value is a pair of keys, with which the guest's signature is made anew; `header` has it.
    """

    secret: str
    header: str
    form: Literal["raw", "bearer", "basic", "sigv4"]
    user: str = ""
    drop: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Offer:
    """Requests that a rule does not allow, and an edit of the file that would allow them, for messages."""

    edit: str
    methods: tuple[str, ...]
    paths: tuple[str, ...] = ()

    def covers(self, method: str, target: Target) -> bool:
        named = method in self.methods or (method == "HEAD" and "GET" in self.methods)
        return named and (not self.paths or allows(self.paths, target))


@dataclass(frozen=True)
class Substitution:
    """A secret whose value takes the place of its placeholder, where that is a whole parameter of the query or a whole
    field of the body."""

    secret: str
    placeholder: str
    query: bool = False
    body: bool = False


@dataclass(frozen=True)
class Renewal:
    """A token endpoint (RFC 6749, 6) at the one path of its rule.

    `secret` has the access token and `renewing` the refresh token, which the request's field `asked` must have the
    `placeholder` of. `answered` are fields of the answer: which token each has, and what the guest gets in its place.
    """

    secret: str
    renewing: str
    placeholder: str
    asked: str = "refresh_token"
    answered: tuple[tuple[str, Literal["access", "refresh", "identity"], str], ...] = ()


@dataclass(frozen=True)
class Rule:
    """One endpoint.

    `host` is a name or `*.` and a name of two labels or more; `*.example.com` does not match `example.com`.
    `port` None means 80 and 443. `origin` says where the rule comes from, for messages, `place` where in which file.
    `private` lets the name resolve into a private network (never to loopback, link-local or metadata): for mirrors that
    the *host's own* configuration names, not for what a file from a repository says.
    `methods` (upper case) and `paths` (patterns of paths.py) narrow the rule; empty: all. `intercept` asks for a look
    inside TLS, which methods, paths and injections need anyway. `foreign_credentials` lets requests carry credentials
    that are not ours to a host that gets a secret of ours. `body` judges what the requests say in their bodies.
    `purpose` says in words what the endpoint allows at all its hosts, `offers` what else it could.
    `raw` is for protocols that name no host (`protocol: tcp`): the name has an address of its own in the guest, and
    nothing else leads there. `target` is the host behind a name that only the guest knows; `localhost` is this very
    host. `bypass` splices TLS although other rules would look inside. `ech` lets a ClientHello hide its server's name.
    `substitutions` put values into queries and bodies; a rule with a `renewal` is that of a token endpoint.
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
    body: Pushes | LfsDownloads | None = None
    purpose: str = ""
    offers: tuple[Offer, ...] = ()
    substitutions: tuple[Substitution, ...] = ()
    renewal: Renewal | None = None

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
            if not METHOD.fullmatch(method):
                raise BadTarget(f"{method[:80]!r} is no method in upper case")
        for name in (name for injection in self.injections for name in (injection.header, *injection.drop)):
            if not _HEADER.fullmatch(name):
                raise BadTarget(f"{name[:80]!r} is no header's name in lower case")

    @property
    def looks_inside(self) -> bool:
        """Whether TLS to this host is intercepted; without, it is spliced."""
        asked = self.methods or self.paths or self.injections or self.intercept or self.body
        return bool(asked or self.substitutions or self.renewal)

    @property
    def needs_bodies(self) -> bool:
        """Whether bodies of requests have to be seen as a whole, which HTTP/1.1 alone is spoken for."""
        signed = any(injection.form == "sigv4" for injection in self.injections)
        return signed or self.renewal is not None or any(each.body for each in self.substitutions)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Those whose values requests to its host may carry."""
        names = [injection.secret for injection in self.injections] + [each.secret for each in self.substitutions]
        names += [self.renewal.secret, self.renewal.renewing] if self.renewal else []
        return tuple(dict.fromkeys(names))

    @property
    def is_conditional(self) -> bool:
        """Whether it speaks of some requests to its host only."""
        return bool(self.methods or self.paths or self.body)

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
