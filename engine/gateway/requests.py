"""One request, judged: what goes upstream in its place, and what must not come back. For every version of HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.gateway.answers import Incoming
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
from engine.gateway.policy import Decision

# An answer must be readable for us where it could hold a value of ours.
_PACKED = frozenset({b"accept-encoding", b"sec-websocket-extensions"})


@dataclass(frozen=True)
class Approved:
    """`headers` are the guest's without rivals, `added` ours, to come behind them."""

    decision: Decision
    headers: Headers
    added: Headers
    incoming: Incoming


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
    if values:
        headers = [(name, value) for name, value in headers if name.lower() not in _PACKED]
        credentials.headers.append((b"accept-encoding", b"identity"))
    return Approved(decision, headers, credentials.headers, Incoming(values, host))


def note_redaction(entry: JournalLine, incoming: Incoming) -> None:
    """Say in the journal that an answer held a value."""
    if incoming.found:
        entry.reason += "; a secret's value in the answer was overwritten"
