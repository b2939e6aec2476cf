"""What a refused HTTP client is told: text for whoever reads it, or a problem document for a program."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from engine.gateway.body_checks import Reply
from engine.gateway.paths import read_target
from engine.gateway.policy import Decision
from engine.gateway.rules import WEB_PORTS, Rule

_PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Refusal:
    """Why a request goes nowhere. `decision` is set where the policy said so.

    `reply` says it in the words of the client's protocol, in which it is an answer like any other.
    """

    status: int
    reason: str
    host: str | None = None
    port: int = 0
    decision: Decision | None = None
    hint: str | None = None
    reply: Reply | None = None

    @property
    def sent_status(self) -> int:
        """The status of the answer."""
        return 200 if self._spoken() else self.status

    def _spoken(self) -> tuple[str, bytes] | None:
        return self.reply(self.text()) if self.reply is not None else None

    def text(self) -> str:
        """With a decision of the policy it names the line to add to the file, and the command that does."""
        verb = "failed" if self.status >= 500 else "refused"
        target = f" {self.host}:{self.port}" if self.host else ""
        advice = self.advice()
        return f"sandbox: {verb}{target}: {self.reason}\n" + (f"{advice}\n" if advice else "")

    def advice(self) -> str:
        decision = self.decision
        if decision is None or not self.host:
            return self.hint or ""
        if decision.rule is None:
            return (
                "To allow it, add this line under `endpoints:` in Sandboxfile.yaml:\n\n"
                f"  {endpoint_line(self.host, self.port)}\n\nor run on the host: {self.command()}"
                + ("\n(for this run; --save keeps it, --for 1h ends it)" if decision.command else "")
            )
        if decision.rule.deny:
            return "A rule that denies beats every rule that allows."
        where = decision.rule.place or f"{decision.rule.label} in Sandboxfile.yaml"
        if decision.rule.purpose or decision.edit:
            purpose = f"This endpoint is for {decision.rule.purpose}." if decision.rule.purpose else ""
            edit = f"To allow it, change {where}: {decision.edit}" if decision.edit else ""
            return "\n".join(filter(None, (purpose, edit, self.hint)))
        if decision.needed is not None:
            method, path = decision.needed
            return f"To allow it, change {where}: {' and '.join(_missing(decision.rule, method, path))}."
        return self.hint or ""

    def command(self) -> str | None:
        """What to run on the host to have it allowed; None where no command does that."""
        if self.host is None or self.decision is None or self.decision.rule is not None:
            return None
        if self.decision.command is not None:
            return self.decision.command
        return f"sandbox add endpoint {self.host}" + ("" if self.port in WEB_PORTS else f":{self.port}")

    def problem(self) -> dict[str, Any]:
        """The fields of RFC 9457, and ours."""
        rule = self.decision.rule if self.decision else None
        fields = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.reason,
            "host": self.host,
            "port": self.port or None,
            "rule": rule.label if rule else None,
            "place": (rule.place or None) if rule else None,
            "advice": self.advice() or None,
            "command": self.command(),
        }
        return {name: value for name, value in fields.items() if value is not None}

    def body(self, accept: str = "") -> tuple[str, bytes]:
        """Media type and text, in the form that an Accept header asks for."""
        if spoken := self._spoken():
            return spoken
        if wants_problem(accept):
            return _PROBLEM, json.dumps(self.problem(), indent=2).encode() + b"\n"
        return "text/plain; charset=utf-8", self.text().encode()

    def answer(self, *, accept: str = "", head_only: bool = False) -> bytes:
        """A complete HTTP/1.1 answer that ends the connection."""
        media_type, body = self.body(accept)
        head = (
            f"HTTP/1.1 {self.sent_status} {HTTPStatus(self.sent_status).phrase}\r\n"
            f"Content-Type: {media_type}\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode("ascii") + (b"" if head_only else body)


def _missing(rule: Rule, method: str, path: str) -> list[str]:
    """What the rule does not say yet."""
    target = read_target(path, strict=bool(rule.paths))
    parts = [] if replace(rule, paths=()).covers([method], target) else [f"`methods` must name {method}"]
    parts += [] if replace(rule, methods=()).covers([method], target) else [f"`paths` must match {path}"]
    return parts or ["`methods` must name every method that the request names, in headers and query too"]


def wants_problem(accept: str) -> bool:
    """Whether a problem document is named, and not with weight zero."""
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name == _PROBLEM:
            return not any(re.fullmatch(r"q\s*=\s*0(\.0*)?", parameter) for parameter in parameters)
    return False


def endpoint_line(host: str, port: int) -> str:
    """The YAML list item that allows this host and port."""
    return f"- {host}" if port in WEB_PORTS else f"- {{host: {host}, port: {port}}}"
