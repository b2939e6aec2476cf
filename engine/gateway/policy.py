"""What the guest may reach and ask for. Default deny; deny beats allow; a pure function of name, port and request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.gateway.body_checks import BodyCheck
from engine.gateway.names import BadName, canonical_name
from engine.gateway.paths import BadTarget, Target, allows, methods_in_query, read_target
from engine.gateway.rules import METHOD, WEB_PORTS, Injection, Renewal, Rule, Substitution


@dataclass(frozen=True)
class Decision:
    """What a policy says about one host and port, or one request, and because of which rule (None: because of none).

    Of a request that is allowed: `target` is what is sent on, `path` its path for the journal, `injections` what it
    gets, `checks` what its body must pass, one of them at least; without one the body may be anything.
    `status` is what a refused one is answered; `needed` (method, path) what the rule would have to name, or `edit`
    what would have to be written instead of it. `command` is what the user can run to have it allowed at once.
    """

    allowed: bool
    rule: Rule | None
    reason: str
    target: str = ""
    path: str = ""
    injections: tuple[Injection, ...] = ()
    substitutions: tuple[Substitution, ...] = ()
    renewal: Renewal | None = None
    status: int = 403
    needed: tuple[str, str] | None = None
    checks: tuple[BodyCheck, ...] = ()
    edit: str = ""
    command: str | None = None

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
        secure = next((rule for rule in self.matching(name, 443) if rule.purpose and not rule.deny), None)
        if port == 80 and secure is not None:  # to name the host besides would allow everything there
            return Decision(False, secure, f"{secure.label} is for https alone, and this is {name}:80")
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
        if not METHOD.fullmatch(method) and any(rule.looks_inside for rule in matching):
            return Decision(False, reached.rule, "the method is not in upper case", path=read.path, status=400)
        methods = list(dict.fromkeys([method, *_upper([*overrides, *methods_in_query(read.query)])]))
        asked = f"{'/'.join(methods)} {name}:{port}{read.path}"
        for rule in matching:
            if rule.deny and rule.forbids(methods, read):
                return Decision(False, rule, f"{asked} is denied by {rule.label}", path=read.path)
        allowing = [rule for rule in matching if not rule.deny and rule.covers(methods, read)]
        if not allowing:
            near, edit = next(_offers(matching, method, read), (reached.rule, ""))
            reason = f"{near.label if near else name} does not allow {asked}"
            return Decision(False, near, reason, path=read.path, needed=(method, read.path), edit=edit)
        injections = tuple(_injections(allowing, read))
        rule, checks = _body_checks(allowing, injections)
        reason = f"{name}:{port} is allowed by {rule.label}"
        return Decision(
            True,
            rule,
            reason,
            target=read.wire,
            path=read.path,
            injections=injections,
            substitutions=tuple(dict.fromkeys(each for one in allowing for each in one.substitutions)),
            renewal=next((one.renewal for one in allowing if one.renewal is not None), None),
            checks=checks,
        )

    def looks_into(self, host: str, port: int) -> bool:
        """Whether some rule about this host (in canonical form) has to look inside TLS.

        Those that deny a part of a host do even where it is bypassed: nobody could see that part in what is spliced.
        """
        return any(rule.looks_inside for rule in self.matching(host, port))

    def may_hide(self, host: str, port: int) -> bool:
        """Whether a ClientHello for this host (in canonical form) may carry an encrypted one."""
        return any(rule.ech for rule in self.matching(host, port))

    def needs_bodies(self, host: str, port: int) -> bool:
        """Whether some rule about this host (in canonical form) has to see bodies of requests as a whole."""
        return any(rule.needs_bodies for rule in self.matching(host, port))

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


def _offers(rules: Iterable[Rule], method: str, target: Target) -> Iterator[tuple[Rule, str]]:
    return (
        (rule, offer.edit) for rule in rules if not rule.deny for offer in rule.offers if offer.covers(method, target)
    )


def _body_checks(allowing: Sequence[Rule], injections: Sequence[Injection]) -> tuple[Rule, tuple[BodyCheck, ...]]:
    """The rule that a request goes by, and what its body must pass.

    Where it gets a credential, only the rules that give one count: a secret is bound to the bodies of its rule, too.
    """
    counting = [rule for rule in allowing if not injections or set(rule.injections) & set(injections)]
    free = next((rule for rule in counting if rule.body is None), None)
    if free is not None:
        return free, ()
    return counting[0], tuple(rule.body for rule in counting if rule.body is not None)


def _placeholders(rule: Rule) -> Iterator[str]:
    yield from (text for injection in rule.injections for text in injection.placeholders if text)
    yield from (each.placeholder for each in rule.substitutions)
    if rule.renewal is not None:
        yield rule.renewal.placeholder
