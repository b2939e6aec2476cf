"""A refused push in git's own words: the client shows them, where it would show no text of another answer.

The report is that of gitprotocol-pack ("Report Status"): of each ref, why it was not changed. Nothing of it comes from
a server.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.gateway.pkt_lines import LONGEST, write_line

MEDIA_TYPE = "application/x-git-receive-pack-result"
_FLUSH = b"0000"
_TEXT, _PROGRESS = b"\x01", b"\x02"  # bands: what the client reads, and what it shows behind `remote:`


def report(refs: Mapping[str, str], capabilities: frozenset[bytes], text: str) -> bytes | None:
    """`refs` says of each ref why not, `text` everything else. None where the client has asked for no report."""
    if not capabilities & {b"report-status", b"report-status-v2"}:
        return None
    lines = [b"unpack ok\n", *(f"ng {ref} {why}\n".encode() for ref, why in refs.items())]
    status = b"".join(map(write_line, lines)) + _FLUSH
    if b"side-band-64k" not in capabilities:
        return status
    room = LONGEST - 5
    shown = [write_line(_PROGRESS + text.encode()[at : at + room]) for at in range(0, len(text.encode()), room)]
    read = [write_line(_TEXT + status[at : at + room]) for at in range(0, len(status), room)]
    return b"".join((*shown, *read)) + _FLUSH
