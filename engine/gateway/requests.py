"""One request, judged: what goes upstream in its place, and what must not come back. For every version of HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engine.gateway.body_checks import BodyRefused, HeldBody
from engine.gateway.context import Context, Refused
from engine.gateway.injection import (
    CredentialRefused,
    Headers,
    check_foreign,
    credentials_for,
    find_placeholder,
    needles,
    without_rivals,
)
from engine.gateway.journal import JournalLine
from engine.gateway.policy import Decision, Policy
from engine.gateway.push_reports import MEDIA_TYPE
from engine.gateway.redaction import Redactor

_MOST_SENT = 1 << 20  # bytes; what git sends in one piece
# An answer must be readable for us where it could hold a value of ours.
_PACKED = frozenset({b"accept-encoding", b"sec-websocket-extensions"})


@dataclass(frozen=True)
class Approved:
    """`headers` are the guest's without rivals, `added` ours, to come behind them.

    With a `body`, nothing goes upstream before that is open, and only if `policy` is still in force then.
    """

    decision: Decision
    headers: Headers
    added: Headers
    redactor: Redactor
    policy: Policy
    body: HeldBody | None = None

    def check_policy(self, context: Context) -> None:
        """Raises Refused where other rules have come while the body was held: they may not allow it."""
        if context.policy is not self.policy:
            raise Refused("the sandbox's rules have changed while the request was sent", hint="send it again")


def refused_body(decision: Decision, error: BodyRefused, headers: Headers) -> Refused:
    """What a refusal is in words of the policy.

    A reply in the protocol's own words is for who waits for one, and has little to send: of a long body, clients send
    all before they read an answer that looks like success.
    """
    rule = decision.rule
    reason = f"{rule.label if rule else 'the policy'} does not allow {error.brief}"
    refused = replace(decision, allowed=False, reason=reason, edit=error.hint or "")
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    short = len(lengths) == 1 and lengths[0].isdigit() and int(lengths[0]) <= _MOST_SENT
    accept = b",".join(value for name, value in headers if name.lower() == b"accept")
    reply = error.reply if short and MEDIA_TYPE.encode() in accept else None
    return Refused(reason, decision=refused, reply=reply)


def approve(
    context: Context, entry: JournalLine, headers: Headers, overrides: Iterable[str], *, inside_tls: bool
) -> Approved:
    """Judge the entry's host, method and target, and see to the credentials. Raises Refused."""
    decision = context.judge_request(entry, overrides)
    host, port, target = entry.host or "", entry.port, entry.target or ""
    rules = context.policy.matching(host, port)
    if find_placeholder(headers, target, context.policy.foreign_placeholders(host, port)):
        raise Refused(f"the request carries the placeholder of a secret that {host} does not get")
    injections = decision.injections
    try:
        if check_foreign(headers, target, rules, injections):
            injections = ()  # a rule permits it to come with its own
        if injections and not inside_tls:
            raise CredentialRefused(f"the secret {injections[0].secret} goes out by TLS only", hint="use https")
        credentials = credentials_for(injections, context.secrets)
    except CredentialRefused as error:
        raise Refused(error.brief, hint=error.hint) from None
    bound = [injection for rule in rules for injection in rule.injections]
    values = needles(bound, context.secrets) if inside_tls else []
    headers = without_rivals(headers, injections)
    if (reached := decision.reached(host)) != host:
        # Services that only their own host talks to refuse requests for any other name (DNS rebinding).
        spoken = (reached if port == (443 if inside_tls else 80) else f"{reached}:{port}").encode("ascii")
        headers = [(name, spoken if name.lower() == b"host" else value) for name, value in headers]
    if values:
        headers = [(name, value) for name, value in headers if name.lower() not in _PACKED]
        credentials.headers.append((b"accept-encoding", b"identity"))
    try:
        body = HeldBody(decision.checks, headers) if decision.checks else None
    except BodyRefused as error:
        raise refused_body(decision, error, headers) from None
    if body is not None:  # who waits for `100 Continue` is answered by us
        headers = [(name, value) for name, value in headers if name.lower() != b"expect"]
    return Approved(decision, headers, credentials.headers, Redactor(values), context.policy, body)


def note_redaction(entry: JournalLine, redactor: Redactor) -> None:
    """Say in the journal that an answer held a value."""
    if redactor.found:
        entry.reason += "; a secret's value in the answer was overwritten"
