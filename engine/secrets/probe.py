"""One harmless request to a vendor, which says whether it takes a value."""

from __future__ import annotations

import base64
import contextlib
import ssl
import threading
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from typing import IO, Literal
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from engine.gateway.rules import Injection
from engine.secrets.errors import SecretError
from engine.secrets.redaction import hold, redact_held
from engine.secrets.vendors import Probe

ANSWER_S = 15.0  # for all of it, with names that are looked up and proxies that are asked


@dataclass(frozen=True)
class Answer:
    """What a vendor said: `status` is that of HTTP; "unclear" is everything that is neither yes nor no."""

    verdict: Literal["taken", "refused", "unclear"]
    status: int


def ask_vendor(probe: Probe, injection: Injection, value: str) -> Answer:
    """Send `value` to the probe's host and nowhere else: no redirect is followed. Waits up to ANSWER_S.

    Takes the way out that the user's other programs take (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE). Raises SecretError
    where the host cannot be reached.
    """
    hold(value)
    result: list[int | Exception] = []

    def ask() -> None:
        try:
            result.append(_status(probe, injection, value))
        except Exception as error:  # told of below, in the thread that asked
            result.append(error)

    # A name that is looked up cannot be interrupted, and may take minutes: the thread is left to itself then.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    if not result:
        raise _unreachable(probe, f"no answer within {ANSWER_S:.0f} s")
    if isinstance(outcome := result[0], Exception):
        raise _unreachable(probe, _reason(outcome))
    verdict: Literal["taken", "refused", "unclear"] = "unclear"
    if outcome in probe.taken or outcome in probe.refused:
        verdict = "taken" if outcome in probe.taken else "refused"
    return Answer(verdict, outcome)


def _status(probe: Probe, injection: Injection, value: str) -> int:
    request = Request(f"https://{probe.host}{probe.path}", headers={"User-Agent": "sandbox"})
    for name, text in probe.headers:
        request.add_header(name, text)
    request.add_unredirected_header(injection.header, header_value(injection, value))
    opener = build_opener(HTTPSHandler(context=ssl.create_default_context()), _NoRedirect())
    try:
        with contextlib.closing(opener.open(request, timeout=ANSWER_S)) as answer:
            return int(answer.status)
    except HTTPError as error:
        with contextlib.closing(error):
            return error.code


def header_value(injection: Injection, value: str) -> str:
    """What goes into the header."""
    if injection.form == "bearer":
        return f"Bearer {value}"
    if injection.form == "basic":
        return f"Basic {base64.b64encode(f'{injection.user}:{value}'.encode()).decode()}"
    return value


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPException | ValueError):  # they quote what was sent or received
        return type(error).__name__
    reason = getattr(error, "reason", None) or error
    return redact_held(str(getattr(reason, "strerror", None) or reason or type(error).__name__))


def _unreachable(probe: Probe, reason: str) -> SecretError:
    return SecretError(
        f"{probe.host} cannot be asked: {reason}",
        hint="this needs the network; HTTPS_PROXY and SSL_CERT_FILE count, as for other programs",
    )
