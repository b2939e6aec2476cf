"""One request, judged: what goes upstream in its place, and what must not come back. For every version of HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from engine.gateway.answers import Incoming
from engine.gateway.context import Context, Refused
from engine.gateway.injection import (
    CredentialRefused,
    Headers,
    check_foreign,
    credentials_for,
    find_placeholder,
    without_rivals,
)
from engine.gateway.journal import JournalLine
from engine.gateway.needles import needles
from engine.gateway.outgoing import Outgoing
from engine.gateway.policy import Decision, Rule
from engine.gateway.whole import Whole

# An answer must be readable for us where it could hold a value of ours.
_PACKED = frozenset({b"accept-encoding", b"sec-websocket-extensions"})


@dataclass(frozen=True)
class Approved:
    """`headers` are the guest's without rivals, `added` ours, to come behind them; `target` may have a value, too.

    With `whole` the body has to be collected, and what is sent is what comes of it.
    """

    decision: Decision
    target: str = field(repr=False)
    headers: Headers
    added: Headers = field(repr=False)
    incoming: Incoming
    outgoing: Outgoing
    whole: Whole | None = None


def approve(
    context: Context, entry: JournalLine, headers: Headers, overrides: Iterable[str], *, inside_tls: bool
) -> Approved:
    """Judge the entry's host, method and target, and see to the credentials. Raises Refused."""
    decision = context.judge_request(entry, overrides)
    host, port, target = entry.host or "", entry.port, entry.target or ""
    rules = context.policy.matching(host, port)
    strangers = context.policy.foreign_placeholders(host, port)
    if find_placeholder(headers, target, strangers):
        raise Refused(f"the request carries the placeholder of a secret that {host} does not get")
    try:
        return _with_credentials(context, entry, decision, headers, rules, inside_tls, Outgoing(strangers, host))
    except CredentialRefused as error:
        raise Refused(error.brief, hint=error.hint) from None


def _with_credentials(
    context: Context,
    entry: JournalLine,
    decision: Decision,
    headers: Headers,
    rules: Sequence[Rule],
    inside_tls: bool,
    outgoing: Outgoing,
) -> Approved:
    """Raises CredentialRefused."""
    method, target, host = entry.method or "", decision.target, entry.host or ""
    injections, substitutions = decision.injections, decision.substitutions
    if check_foreign(headers, entry.target or "", rules, injections):
        injections, substitutions = (), ()  # a rule permits it to come with its own
    carried = [each.secret for each in injections] + [each.secret for each in substitutions]
    carried += [decision.renewal.renewing] if decision.renewal is not None else []
    if carried and not inside_tls:
        raise CredentialRefused(f"the secret {carried[0]} goes out by TLS only", hint="use https")
    credentials = credentials_for(injections, context.secrets)
    values = needles(rules, context.secrets) if inside_tls else []
    sent = without_rivals(headers, injections)
    if values:
        sent = [(name, value) for name, value in sent if name.lower() not in _PACKED]
        credentials.headers.append((b"accept-encoding", b"identity"))
    incoming, added, whole = Incoming(values, host), credentials.headers, None
    if not (substitutions or decision.renewal or any(each.form == "sigv4" for each in injections)):
        return Approved(decision, target, sent, added, incoming, outgoing)
    from engine.gateway import rewriting, substitution  # only who asks for it needs it

    target = substitution.into_query(target, substitutions, context.secrets)
    if decision.renewal is not None:
        whole = rewriting.renewing(context, host, method, target, [*sent, *added], decision.renewal)
    else:
        asked = rewriting.signature_of(injections, headers, target)
        everything = [*sent, *added]
        whole = rewriting.rewriting_for(context, method, target, everything, injections, substitutions, asked)
        sent, added = rewriting.signed_now(context, method, target, everything, injections, asked), []
    return Approved(decision, target, sent, added, incoming, outgoing, whole)


def note_redaction(entry: JournalLine, incoming: Incoming) -> None:
    """Say in the journal that an answer held a value."""
    if incoming.found:
        entry.reason += "; a secret's value in the answer was overwritten"
