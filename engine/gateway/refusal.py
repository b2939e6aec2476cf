"""What a refused HTTP client is told: plain text, for the person or agent who reads it."""

from __future__ import annotations

from http import HTTPStatus

from engine.gateway.policy import WEB_PORTS, Decision


def explain(reason: str, host: str | None = None, port: int = 0, decision: Decision | None = None) -> str:
    """The text of a refusal; with a decision of the policy, it names the line to add to the file."""
    target = f" {host}:{port}" if host else ""
    text = f"sandbox: refused{target}: {reason}\n"
    if host and decision is not None and decision.rule is None:
        text += f"To allow it, add this line under `endpoints:` in Sandboxfile.yaml:\n\n  {endpoint_line(host, port)}\n"
    elif decision is not None and decision.rule is not None:
        text += "A rule that denies beats every rule that allows.\n"
    return text


def endpoint_line(host: str, port: int) -> str:
    """The YAML list item that allows this host and port."""
    return f"- {host}" if port in WEB_PORTS else f"- {{host: {host}, port: {port}}}"


def plain_answer(status: int, text: str, *, head_only: bool = False) -> bytes:
    """A complete HTTP/1.1 answer that ends the connection."""
    body = text.encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (b"" if head_only else body)
