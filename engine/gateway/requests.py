"""One request, judged: what goes upstream in its place, and what must not come back. For every version of HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from engine.gateway.answers import Incoming
from engine.gateway.body_checks import BodyRefused, HeldBody
from engine.gateway.context import Context, Refused
from engine.gateway.injection import (
    CredentialRefused,
    Headers,
    check_foreign,
    credentials_for,
    find_placeholder,
    header_key,
    without_rivals,
)
from engine.gateway.journal import JournalLine
from engine.gateway.outgoing import Outgoing
from engine.gateway.policy import Decision, Policy
from engine.gateway.push_reports import MEDIA_TYPE
from engine.gateway.rules import Rule
from engine.gateway.whole import Whole

_MOST_SENT = 1 << 20  # bytes; what git sends in one piece
# In which some servers find the path, or a second one: IIS, PHP frameworks and proxies; WebDAV; S3.
_OTHER_PATHS = frozenset({b"x-original-url", b"x-rewrite-url", b"destination", b"x-amz-copy-source"})
# An answer must be readable for us where it could hold a value of ours.
_PACKED = frozenset({b"accept-encoding", b"sec-websocket-extensions"})


@dataclass(frozen=True)
class Approved:
    """`headers` are the guest's without rivals, `added` ours, to come behind them; `target` may have a value, too.

    With a `body`, nothing goes upstream before that is open, and only if `policy` is still in force then. With `whole`
    the body has to be collected, and what is sent is what comes of it.
    """

    decision: Decision
    target: str = field(repr=False)
    headers: Headers
    added: Headers = field(repr=False)
    incoming: Incoming
    outgoing: Outgoing
    policy: Policy
    whole: Whole | None = None
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
    strangers = context.policy.foreign_placeholders(host, port)
    if find_placeholder(headers, target, strangers):
        raise Refused(f"the request carries the placeholder of a secret that {host} does not get")
    if any(_is_about_paths(rule) for rule in rules):
        for name, _ in headers:
            if header_key(name) in _OTHER_PATHS:
                shown = name.decode("latin-1")
                raise Refused(f"the request names another path, in {shown}, where the rules are about paths")
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
    values = context.given.needles(host, rules, context.secrets)
    sent = _spoken_to(decision.reached(host), host, entry.port, without_rivals(headers, injections), inside_tls)
    if values:
        sent = [(name, value) for name, value in sent if name.lower() not in _PACKED]
        credentials.headers.append((b"accept-encoding", b"identity"))
    try:
        body = HeldBody(decision.checks, headers) if decision.checks else None
    except BodyRefused as error:
        raise refused_body(decision, error, headers) from None
    if body is not None:  # who waits for `100 Continue` is answered by us
        sent = [(name, value) for name, value in sent if name.lower() != b"expect"]
    incoming, added, whole = Incoming(values, host), credentials.headers, None
    if not (substitutions or decision.renewal or any(each.form == "sigv4" for each in injections)):
        return Approved(decision, target, sent, added, incoming, outgoing, context.policy, body=body)
    if body is not None:
        raise CredentialRefused("a secret goes into this request, whose body has to be judged as the guest sends it")
    from engine.gateway import rewriting, substitution  # only who asks for it needs it

    target = substitution.into_query(target, substitutions, context.secrets)
    if decision.renewal is not None:
        whole = rewriting.renewing(context, host, method, target, [*sent, *added], decision.renewal)
    else:
        asked = rewriting.signature_of(injections, headers, target)
        everything = [*sent, *added]
        whole = rewriting.rewriting_for(context, method, target, everything, injections, substitutions, asked)
        sent, added = rewriting.signed_now(context, method, target, everything, injections, asked), []
    return Approved(decision, target, sent, added, incoming, outgoing, context.policy, whole)


def _is_about_paths(rule: Rule) -> bool:
    return bool(rule.paths or any(each.paths for each in rule.injections))


def _spoken_to(reached: str, host: str, port: int, headers: Headers, inside_tls: bool) -> Headers:
    """The headers for the host that is really meant.

    Services that only their own host talks to refuse requests for any other name (DNS rebinding).
    """
    if reached == host:
        return headers
    spoken = (reached if port == (443 if inside_tls else 80) else f"{reached}:{port}").encode("ascii")
    return [(name, spoken if name.lower() == b"host" else value) for name, value in headers]


def note_redaction(entry: JournalLine, incoming: Incoming) -> None:
    """Say in the journal that an answer held a value."""
    if incoming.found:
        entry.reason += "; a secret's value in the answer was overwritten"
