"""The certificate authority of one sandbox: made in memory, gone with it.

Its key is on a disk only while the sandbox is paused, beside the memory of a guest that trusts it and nobody else does.

Loaded only where a rule looks inside TLS: `cryptography` takes a moment and some megabytes.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from engine.gateway.tlsio import end_strictly
from engine.report.text import cut

_CLOCK_ERROR = timedelta(days=2)  # guests that were asleep, or have no clock
_AUTHORITY_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=30)
_CONTEXT_LIFE_S = 15 * 86400.0
_CLOCK_SET_BACK_S = 86400.0  # by so much, and a certificate of before may not be valid yet
_MOST_CONTEXTS = 256  # the guest chooses the names
_LONGEST_NAME = 64  # of a common name (RFC 5280)


class Authority:
    """Mints a certificate for each host, and keeps the TLS contexts that answer with them."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key
        self._key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        self._leaf_key = _new_key()  # one for all hosts: only the signature is made for each
        self._leaf_key_text = self._leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._contexts: OrderedDict[tuple[str, str | None], tuple[ssl.SSLContext, float]] = OrderedDict()

    @classmethod
    def create(cls, name: str) -> Authority:
        """A new one; `name` is the sandbox's, for people who look at the certificate."""
        key = _new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cut(f"sandbox {name}", _LONGEST_NAME))])
        builder = (
            _new_certificate(_AUTHORITY_LIFE)
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def from_text(cls, text: str) -> Authority:
        """The one that `to_text` wrote. Raises ValueError."""
        key = load_pem_private_key(text.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("this is no key of an authority")
        return cls(x509.load_pem_x509_certificate(text.encode()), key)

    def to_text(self) -> str:
        """Key and certificate, as PEM. Whoever has it can answer this sandbox's guest as any host."""
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key.decode("ascii") + self.certificate

    @property
    def certificate(self) -> str:
        """What the guest has to trust, as PEM."""
        return self._certificate.public_bytes(Encoding.PEM).decode("ascii")

    def context(self, host: str, alpn: str | None) -> ssl.SSLContext:
        """A server's context that answers as `host` (in canonical form), and speaks `alpn` if anything."""
        found = self._contexts.get((host, alpn))
        # By the clock that certificates are judged by: a machine that slept for weeks has counted none of them.
        if found is not None and -_CLOCK_SET_BACK_S < time.time() - found[1] < _CONTEXT_LIFE_S:
            self._contexts.move_to_end((host, alpn))
            return found[0]
        context = end_strictly(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        _load_chain(context, self._mint(host).public_bytes(Encoding.PEM) + self._leaf_key_text)
        self._contexts[host, alpn] = context, time.time()
        if len(self._contexts) > _MOST_CONTEXTS:
            self._contexts.popitem(last=False)
        return context

    def _mint(self, host: str) -> x509.Certificate:
        """For this name alone. It is not in the subject, which holds 64 characters; so its extension is critical."""
        return (
            _new_certificate(_LEAF_LIFE)
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(self._leaf_key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._leaf_key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._key_id), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _new_certificate(life: timedelta) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(time.time(), UTC)
    serial = x509.random_serial_number()
    return x509.CertificateBuilder(
        serial_number=serial, not_valid_before=now - _CLOCK_ERROR, not_valid_after=now + life
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load_chain(context: ssl.SSLContext, text: bytes) -> None:
    """`load_cert_chain` takes paths only: give it a file without a name, or one that is gone at once."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, text)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:  # 0600
        file.write(text)
        file.flush()
        context.load_cert_chain(file.name)
