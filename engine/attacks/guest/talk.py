"""What attempts speak with: hellos made by hand, TLS that verifies nothing, HTTP as it is written."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
from typing import Any

ANSWER_S = 15.0
_BASE = bytes.fromhex("002b0005040304" + "0303000a0004" + "0002001d000d000400020403")  # versions, groups, signatures


class Talk:
    """`gateway` says for each port where the guest's connections go: (address, port), or the path of a socket."""

    def __init__(self, gateway: dict[str, Any]) -> None:
        self._gateway = gateway

    def dial(self, port: int = 443) -> socket.socket:
        place = self._gateway[str(port)]
        family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_S)
        connection.connect(place if isinstance(place, str) else tuple(place))
        return connection

    # TLS by hand

    def extension(self, kind: int, body: bytes) -> bytes:
        return struct.pack("!HH", kind, len(body)) + body

    def sni(self, *names: str | bytes, kind: int = 0) -> bytes:
        texts = [name.encode() if isinstance(name, str) else name for name in names]
        entries = b"".join(bytes([kind]) + struct.pack("!H", len(text)) + text for text in texts)
        return self.extension(0, struct.pack("!H", len(entries)) + entries)

    def hello(self, extensions: bytes = b"", more: bytes = b"") -> bytes:
        """A ClientHello message with these extensions, and bytes behind them."""
        fields = extensions + _BASE
        body = b"\3\3" + os.urandom(32) + b"\0" + b"\0\4\x13\1\x13\2" + b"\1\0"
        body += struct.pack("!H", len(fields)) + fields + more
        return b"\1" + struct.pack("!I", len(body))[1:] + body

    def record(self, data: bytes, kind: int = 22, version: bytes = b"\3\1") -> bytes:
        return bytes([kind]) + version + struct.pack("!H", len(data)) + data

    def raw(self, data: bytes, port: int = 443, cut: int = 0) -> str:
        """Send bytes, in pieces of `cut` if it is set; what comes back, described."""
        with self.dial(port) as connection:
            try:
                for at in range(0, len(data), cut or len(data)):
                    connection.sendall(data[at : at + (cut or len(data))])
                got = connection.recv(65536)
            except TimeoutError:
                return "silence"
            except OSError as error:
                return f"closed ({error.strerror})"
        return self._describe(got)

    def _describe(self, got: bytes) -> str:
        if not got:
            return "closed"
        if got[0] == 21:
            return f"alert {got[6]}" if len(got) > 6 else "alert"
        return "server hello" if got[0] == 22 else got.decode("latin-1")

    # TLS by the library

    def tls(
        self,
        name: str,
        *,
        alpn: tuple[str, ...] = (),
        cut: int = 0,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        port: int = 443,
    ) -> ssl.SSLSocket:
        context = context or self.context()
        if alpn:
            context.set_alpn_protocols(list(alpn))
        connection = self.dial(port)
        if cut:
            return self._slowly(context, connection, name, cut)
        return context.wrap_socket(connection, server_hostname=name, session=session)

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def _slowly(self, context: ssl.SSLContext, outer: socket.socket, name: str, cut: int) -> ssl.SSLSocket:
        """Through a pair of sockets, of which a thread passes on what the client says in pieces."""
        ours, theirs = socket.socketpair()
        ours.settimeout(ANSWER_S)

        def up() -> None:
            with contextlib.suppress(OSError):
                while data := theirs.recv(65536):
                    for at in range(0, len(data), cut):
                        outer.sendall(data[at : at + cut])

        def down() -> None:
            with contextlib.suppress(OSError):
                while data := outer.recv(65536):
                    theirs.sendall(data)
                theirs.shutdown(socket.SHUT_WR)

        for work in (up, down):
            threading.Thread(target=work, daemon=True).start()
        return context.wrap_socket(ours, server_hostname=name)

    # HTTP

    def ask(self, method: str, path: str, *lines: str, host: str = "", body: bytes | str = b"", end: str = "") -> bytes:
        """A request; `lines` are header lines. A body brings its Content-Length. `end` is what `Connection` says."""
        content = body.encode() if isinstance(body, str) else body
        head = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host else []), *lines]
        head += [f"Connection: {end}"] if end else []
        head += [f"Content-Length: {len(content)}"] if content else []
        return "\r\n".join(head).encode("utf-8") + b"\r\n\r\n" + content

    def https(self, name: str, data: bytes, count: int = 1, **options: Any) -> str:
        """Bytes inside TLS to that name; the answers, `count` at most."""
        with self.tls(name, **options) as connection:
            connection.sendall(data)
            return self.answers(connection, count)

    def http(self, data: bytes, count: int = 1, port: int = 80) -> str:
        with self.dial(port) as connection:
            connection.sendall(data)
            return self.answers(connection, count)

    def answers(self, connection: socket.socket, count: int = 1) -> str:
        """Status line, headers and body of each answer, up to the one that ends the connection."""
        buffer = b""
        texts: list[str] = []
        while len(texts) < count:
            try:
                head, buffer = self._until(connection, buffer, b"\r\n\r\n")
                fields = dict(
                    (line.partition(":")[0].lower(), line.partition(":")[2].strip())
                    for line in head.decode("latin-1").split("\r\n")[1:]
                )
                body, buffer = self._body(connection, buffer, fields)
            except TimeoutError:
                texts.append("silence")
                break
            except (OSError, EOFError) as error:
                texts.append(f"closed ({error})")
                break
            if head[9:10] != b"1":
                texts.append(head.decode("latin-1") + body.decode("latin-1"))
            if fields.get("connection", "").lower() == "close":
                break
        return "\n".join(texts)

    def _body(self, connection: socket.socket, buffer: bytes, fields: dict[str, str]) -> tuple[bytes, bytes]:
        if "chunked" in fields.get("transfer-encoding", ""):
            return self._until(connection, buffer, b"0\r\n\r\n")
        size = int(fields.get("content-length", "0"))
        while len(buffer) < size:
            buffer += self._more(connection)
        return buffer[:size], buffer[size:]

    def _until(self, connection: socket.socket, buffer: bytes, end: bytes) -> tuple[bytes, bytes]:
        while end not in buffer:
            buffer += self._more(connection)
        at = buffer.index(end) + len(end)
        return buffer[:at], buffer[at:]

    def _more(self, connection: socket.socket) -> bytes:
        data = connection.recv(65536)
        if not data:
            raise EOFError("the end")
        return data
