"""Package `tiny` for each client of packages, as files that a plain web server offers: `site/HOST/PATH`."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

DEBIAN, PYPI, NPM, CRATES, GO = (f"{name}.example.com" for name in ("apt", "pypi", "npm", "crates", "go"))
COMPANY = "packages.example.com"
HOSTS = (DEBIAN, PYPI, NPM, CRATES, GO)


def make_package_site(site: Path) -> None:
    """Make the files of all HOSTS, and of one company that has several clients' packages under one name."""
    several = {**pypi(), **{f"npm/{name}": content for name, content in npm(f"https://{COMPANY}/npm").items()}}
    for host, files in (
        (COMPANY, several),
        (DEBIAN, apt()),
        (PYPI, pypi()),
        (NPM, npm()),
        (CRATES, crates()),
        (GO, go()),
    ):
        for name, content in files.items():
            (site / host / name).parent.mkdir(parents=True, exist_ok=True)
            (site / host / name).write_bytes(content)


def apt() -> dict[str, bytes]:
    """A flat repository without a signature: what is tested is the way to it."""
    control = "Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.com>\nDescription: tiny\n"
    program = packed({"./usr/bin/tiny": b"#!/bin/sh\necho tiny 1.0\n"}, mode=0o755)
    parts = {"debian-binary": b"2.0\n", "control.tar.gz": packed({"./control": control.encode()})}
    deb = archived({**parts, "data.tar.gz": program})
    packages = f"{control}Filename: tiny.deb\nSize: {len(deb)}\nSHA256: {sha256(deb)}\n".encode()
    release = f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {sha256(packages)} {len(packages)} Packages\n".encode()
    return {"tiny.deb": deb, "Packages": packages, "Release": release}


def pypi() -> dict[str, bytes]:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as wheel:
        wheel.writestr("tiny.py", "version = '1.0'\n")
        about = "tiny-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    name = "tiny-1.0-py3-none-any.whl"
    return {name: made.getvalue(), "simple/tiny/index.html": f'<a href="/{name}">{name}</a>'.encode()}


def npm(registry: str = f"https://{NPM}") -> dict[str, bytes]:
    about = {"name": "tiny", "version": "1.0.0", "main": "index.js"}
    files = {"package/package.json": json.dumps(about).encode(), "package/index.js": b"module.exports = 'tiny 1.0.0'\n"}
    tarball = packed(files)
    integrity = f"sha512-{base64.b64encode(hashlib.sha512(tarball).digest()).decode()}"
    place = {"tarball": f"{registry}/tiny/-/tiny-1.0.0.tgz", "integrity": integrity}
    dist = {**place, "shasum": hashlib.sha1(tarball).hexdigest()}
    versions = {"1.0.0": {**about, "dist": dist}}
    # The clients do not take a version that was published within the last days.
    times = {name: "2026-01-01T00:00:00.000Z" for name in ("created", "modified", "1.0.0")}
    document = {"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": versions, "time": times}
    return {"tiny/index.html": json.dumps(document).encode(), "tiny/-/tiny-1.0.0.tgz": tarball}


def crates() -> dict[str, bytes]:
    """A sparse registry of cargo's."""
    manifest = b'[package]\nname = "tiny"\nversion = "1.0.0"\nedition = "2021"\n'
    source = b'pub fn version() -> &\'static str { "tiny 1.0.0" }\n'
    crate = packed({"tiny-1.0.0/Cargo.toml": manifest, "tiny-1.0.0/src/lib.rs": source})
    about = {"name": "tiny", "vers": "1.0.0", "deps": [], "cksum": sha256(crate), "features": {}, "yanked": False}
    return {
        "config.json": json.dumps({"dl": f"https://{CRATES}/dl"}).encode(),
        "ti/ny/tiny": json.dumps(about).encode() + b"\n",
        "dl/tiny/1.0.0/download": crate,
    }


def go() -> dict[str, bytes]:
    """A proxy of Go's modules."""
    module, version = "tiny.example.com/tiny", "v1.0.0"
    mod = f"module {module}\n\ngo 1.21\n".encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{module}@{version}/go.mod", mod)
        archive.writestr(f"{module}@{version}/tiny.go", 'package tiny\n\nconst Version = "tiny 1.0.0"\n')
    place = f"{module}/@v"
    info = json.dumps({"Version": version, "Time": "2026-01-01T00:00:00Z"}).encode()
    known = {f"{place}/{version}.info": info, f"{place}/{version}.mod": mod, f"{place}/{version}.zip": made.getvalue()}
    return {f"{place}/list": f"{version}\n".encode(), **known}


def packed(files: Mapping[str, bytes], mode: int = 0o644) -> bytes:
    """A tar.gz."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def archived(files: Mapping[str, bytes]) -> bytes:
    """An archive as ar makes it, which a Debian package is."""
    made = b"!<arch>\n"
    for name, content in files.items():
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        made += content + b"\n" * (len(content) % 2)
    return made


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
