"""Java's own file of trusted certificates, in the form JKS: made and changed without a Java."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator

MAGIC, VERSION, TRUSTED = 0xFEEDFEED, 2, 2
PASSWORD = "changeit"  # everybody's: it protects nothing
SALT = PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite"
DIGEST_SIZE = 20


def make_java_store(certificates: Iterable[bytes]) -> bytes:
    """A store that trusts these certificates (DER)."""
    return _seal([_entry(f"ca{number}", der) for number, der in enumerate(certificates)])


def change_java_store(store: bytes, alias: str, certificate: bytes | None) -> bytes:
    """`store` with this certificate (DER) alone under `alias`, or with none; a store of another form stays as it is."""
    if len(store) < 12 + DIGEST_SIZE or struct.unpack_from(">II", store) != (MAGIC, VERSION):
        return store
    try:
        kept = [entry for name, entry in _entries(store) if name != alias]
    except (struct.error, IndexError, ValueError):
        return store
    return _seal([*kept, _entry(alias, certificate)] if certificate is not None else kept)


def _seal(entries: list[bytes]) -> bytes:
    store = struct.pack(">III", MAGIC, VERSION, len(entries)) + b"".join(entries)
    return store + hashlib.sha1(SALT + store, usedforsecurity=False).digest()


def _entry(alias: str, der: bytes) -> bytes:
    name = alias.encode()
    return (
        struct.pack(">IH", TRUSTED, len(name))
        + name
        + struct.pack(">QH", 0, 5)
        + b"X.509"
        + struct.pack(">I", len(der))
        + der
    )


def _entries(store: bytes) -> Iterator[tuple[str, bytes]]:
    """(alias, the entry's bytes). Raises ValueError for a store that holds keys, which nobody's trusted ones do."""
    (count,) = struct.unpack_from(">I", store, 8)
    at = 12
    for _ in range(count):
        start = at
        tag, length = struct.unpack_from(">IH", store, at)
        if tag != TRUSTED:
            raise ValueError("an entry with a key")
        alias = store[at + 6 : at + 6 + length].decode(errors="replace")
        at += 6 + length + 8
        (length,) = struct.unpack_from(">H", store, at)
        at += 2 + length
        (length,) = struct.unpack_from(">I", store, at)
        at += 4 + length
        if at > len(store) - DIGEST_SIZE:
            raise ValueError("the store is cut off")
        yield alias, store[start:at]
