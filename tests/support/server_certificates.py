"""Certificates of servers, good ones and bad ones, and the contexts that answer with them."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from engine.gateway.tlsio import end_strictly

DAY = timedelta(days=1)


@dataclass
class Signer:
    """A certificate that signs others. `plain`: without any key identifiers, as many a company's is."""

    name: str
    plain: bool = False
    above: Signer | None = None

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(self.name, self.key.public_key(), -DAY, 30 * DAY, self.above or self)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = builder.sign((self.above or self).key, hashes.SHA256())

    def _builder(
        self, name: str, key: ec.EllipticCurvePublicKey, begin: timedelta, end: timedelta, issuer: Signer
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            subject_name=_named(name),
            issuer_name=_named(issuer.name),
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now + begin,
            not_valid_after=now + end,
        )
        if self.plain:
            return builder
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )

    @property
    def text(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def server(self, *hosts: str, alpn: Sequence[str] = ("http/1.1",), **about: Any) -> ssl.SSLContext:
        """A context that answers as these hosts; `about` as issue() has it."""
        key, chain = self.issue(*hosts, **about)
        return answering(key + chain, alpn)

    def issue(
        self,
        *hosts: str,
        begin: timedelta = -DAY,
        end: timedelta = DAY,
        usage: ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        common_name: str = "",
        with_chain: bool = True,
    ) -> tuple[bytes, bytes]:
        """Key and chain (PEM) for these hosts; without any, only the common name says whose it is."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(common_name, key.public_key(), begin, end, self)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        chain = [builder.sign(self.key, hashes.SHA256())]
        if self.above is not None and with_chain:
            chain.append(self.certificate)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return text, b"".join(each.public_bytes(Encoding.PEM) for each in chain)


def answering(chain: bytes, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """A server's context with a key and certificates (PEM); `alpn` is what it prefers."""
    context = end_strictly(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    with tempfile.TemporaryDirectory(prefix="chain-") as directory:
        file = Path(directory, "chain.pem")
        file.write_bytes(chain)
        context.load_cert_chain(file)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
