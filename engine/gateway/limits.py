"""What one gateway may spend on its guest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Counts, bytes and seconds. The guest is not trusted: each of its waits and buffers has an end."""

    connections: int = 512  # at once; lowered when the process may not open as many files
    head_bytes: int = 16 << 10  # a ClientHello, or an HTTP request's head
    head_s: float = 60.0  # from its first chance to send to a whole head, or TLS: an emulated one says 200 in 30 s
    held_s: float = 30.0  # from a request's head to the end of what its body must be judged by
    handshake_s: float = 30.0  # of TLS with a server, or of a proxy
    resolve_s: float = 10.0
    connect_s: float = 10.0  # for each address
    idle_s: float = 3600.0  # without a byte in either direction
    half_closed_s: float = 300.0  # the same, after one side has said that it is done
    linger_s: float = 2.0  # for a refused guest to read the answer and hang up
    chunk_bytes: int = 128 << 10  # moved at once; a connection buffers a few of these, whatever its speed
