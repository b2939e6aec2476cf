"""What has to be done to a request beside its headers: a body with values, a new signature, a login that is renewed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from engine.gateway import renewal as renewals
from engine.gateway import signing, substitution
from engine.gateway.answers import AnswerRefused
from engine.gateway.context import Context
from engine.gateway.injection import CredentialRefused, Headers, value_of
from engine.gateway.rules import Injection, Renewal, Substitution
from engine.gateway.whole import Masked, Onward, Whole, with_length


def signature_of(injections: Sequence[Injection], headers: Headers, target: str) -> signing.Asked | None:
    """What the guest signed, of a request that gets AWS keys. Raises CredentialRefused."""
    signed = next((each for each in injections if each.form == "sigv4"), None)
    return signing.read_asked(headers, target, signed.placeholders) if signed is not None else None


def rewriting_for(
    context: Context,
    method: str,
    target: str,
    headers: Headers,
    injections: Sequence[Injection],
    substitutions: Sequence[Substitution],
    asked: signing.Asked | None,
) -> Whole | None:
    """What happens once the body is whole; None where it goes on as it comes. `headers` are those that are sent.

    Raises CredentialRefused for keys that are missing or no keys.
    """
    keys = _keys(injections, context) if asked is not None else None
    in_body = any(each.body for each in substitutions)
    if not in_body and (asked is None or asked.digest is not None):
        return None

    def change(body: bytes) -> Onward:
        changed = substitution.into_body(headers, body, substitutions, context.secrets)
        sent = with_length(headers, changed, method)
        if asked is not None and keys is not None:
            sent = signing.sign(asked, keys, method, target, sent, changed, datetime.now(UTC))
        return Onward(target, sent, changed)

    return Whole(substitution.LONGEST_BODY if in_body else signing.LONGEST_BODY, change)


def signed_now(
    context: Context,
    method: str,
    target: str,
    headers: Headers,
    injections: Sequence[Injection],
    asked: signing.Asked | None,
) -> Headers:
    """The headers with a signature where the request says the digest of its body; else as they are."""
    if asked is None or asked.digest is None:
        return headers
    return signing.sign(asked, _keys(injections, context), method, target, headers, b"", datetime.now(UTC))


def renewing(context: Context, host: str, method: str, target: str, headers: Headers, renewal: Renewal) -> Whole:
    """A request to a token endpoint. Two that renew the same login go one after the other."""

    def change(body: bytes) -> Onward:
        filled = renewals.put_in(renewal, headers, body, context.secrets)
        return Onward(target, with_length(headers, filled, method), filled)

    async def mask(status: int, answered: Headers, body: bytes) -> Masked:
        masked = renewals.mask(renewal, status, answered, body, context.secrets, host)
        if masked.taken:
            if context.keep is None:
                raise AnswerRefused(f"nobody is here to keep the new tokens of {host}")
            await context.keep(masked.taken)
        return masked

    return Whole(renewals.LONGEST_REQUEST, change, mask, context.turn(renewal.renewing))


def _keys(injections: Sequence[Injection], context: Context) -> signing.Keys:
    signed = next(each for each in injections if each.form == "sigv4")
    try:
        return signing.read_keys(value_of(signed.secret, context.secrets))
    except CredentialRefused as error:
        raise CredentialRefused(error.brief.replace("the secret is", f"the secret {signed.secret} is"), hint=error.hint)
