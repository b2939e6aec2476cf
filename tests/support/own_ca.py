"""A CA of a test's own, made by the openssl program; and certificates that it issues."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class OwnCa:
    """A CA in `directory`, in files called `name`; its key never leaves the host."""

    directory: Path
    name: str

    @property
    def certificate(self) -> str:
        """PEM."""
        return (self.directory / f"{self.name}.crt").read_text()

    @property
    def file(self) -> Path:
        return self.directory / f"{self.name}.crt"

    @classmethod
    def create(cls, directory: Path, name: str, *, subject: str | None = None) -> OwnCa:
        """With `subject` as openssl writes one, by default /CN=name."""
        ca = cls(directory, name)
        _openssl(
            *("req", "-x509", *KEY, "-days", "30", "-subj", subject or f"/CN={name}", "-utf8"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", str(directory / f"{name}.key"), "-out", str(ca.file)),
        )
        return ca

    def issue(self, host: str) -> str:
        """Key and chain (PEM) of a server of that name.

        It is valid since yesterday, which openssl's `x509` cannot say: the clock of a guest that is emulated on a busy
        machine is behind.
        """
        authority = x509.load_pem_x509_certificate(self.file.read_bytes())
        signer = serialization.load_pem_private_key((self.directory / f"{self.name}.key").read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        usages = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        usages += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
        # As the gateway's: strict clients want each of these.
        extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
            (x509.SubjectAlternativeName([x509.DNSName(host)]), True),
            (x509.BasicConstraints(ca=False, path_length=None), False),
            (x509.KeyUsage(**{usage: usage == "digital_signature" for usage in usages}), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
        )
        builder = x509.CertificateBuilder(
            issuer_name=authority.subject,
            subject_name=x509.Name([]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=1),
            not_valid_after=now + timedelta(days=30),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        leaf = builder.sign(signer, hashes.SHA256())
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        private = key.private_bytes(encoding, form, serialization.NoEncryption())
        return (private + leaf.public_bytes(encoding)).decode()


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
