"""The two keys of one sandbox: the guest's sshd shows one, and the host's ssh the other."""

from __future__ import annotations

from typing import NamedTuple


class KeyPair(NamedTuple):
    """`private` is a file of OpenSSH's, `public` one line: the algorithm and the key."""

    private: str
    public: str


def make_key() -> KeyPair:
    """A new Ed25519 key, without a passphrase: its file is readable by the user alone."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return KeyPair(private.decode(), public.decode())
