"""Content keys: a short name for the content that a thing is made of. It changes exactly when the content changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

KEY_LENGTH = 32  # hex digits: 128 bits exclude accidental collisions, and paths stay short


def content_key(*parts: object, **inputs: object) -> str:
    """The key of JSON-like values (str, int, float, bool, None, list, tuple, mapping with str keys).

    Raises TypeError for anything else: the repr of an object would give another key in each run.
    """
    text = json.dumps([parts, inputs], sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return bytes_key(text.encode())


def inputs_key(inputs: Mapping[str, str]) -> str:
    """The key of named inputs alone, for the entries that depend on no Sandboxfile (tools, image, initramfs)."""
    return bytes_key(json.dumps(inputs, sort_keys=True).encode())


def bytes_key(data: bytes) -> str:
    """The key of bytes: the beginning of their SHA-256."""
    return hashlib.sha256(data).hexdigest()[:KEY_LENGTH]
