"""A CA of a test's own, made by the openssl program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

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
        """Key and chain (PEM) of a server of that name."""
        place = self.directory / f"{self.name}-{host}"
        key, request, leaf, more = (str(place.with_name(f"{place.name}.{end}")) for end in ("key", "csr", "crt", "ext"))
        # As the gateway's: strict clients want each of these.
        lines = ("basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth")
        keys = ("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")
        Path(more).write_text("\n".join((f"subjectAltName=critical,DNS:{host}", *lines, *keys, "")))
        _openssl("req", *KEY, "-subj", "/", "-keyout", key, "-out", request)
        issuer = ("-CA", str(self.file), "-CAkey", str(self.directory / f"{self.name}.key"), "-CAcreateserial")
        _openssl("x509", "-req", "-in", request, *issuer, "-days", "30", "-extfile", more, "-out", leaf)
        return Path(key).read_text() + Path(leaf).read_text()


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
