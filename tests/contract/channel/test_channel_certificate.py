"""The certificate of a sandbox's CA, as guestd puts it into a machine whose root is a directory of the test."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from own_ca import OwnCa

T = 20.0
SUBJECTS = ["/CN=one", "/O=Ärger  und Söhne /CN= Two  Words ", "/C=DE/O=Sandbox/OU=a+CN=b"]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A root with a store of one certificate that is not ours."""
    root = tmp_path / "root"
    (root / "etc/ssl/certs").mkdir(parents=True)
    (root / "etc/ssl/certs/ca-certificates.crt").write_text(OwnCa.create(tmp_path, "world").certificate)
    return root


def identify(harness: Any, root: Path, requests: Sequence[dict[str, Any]]) -> None:
    async def scenario() -> None:
        async with harness.start_guestd() as process:
            for request in requests:
                await process.channel.call("identity", T, root=str(root), **request)

    asyncio.run(scenario())


def everything(root: Path) -> dict[str, str | bytes]:
    """Every file and link beneath `root`."""
    files = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_bytes() for path in files
    }


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_store_is_as_update_ca_certificates_leaves_it(
    harness: Any, machine: Path, tmp_path: Path, subject: str
) -> None:
    ca = OwnCa.create(tmp_path, "mine", subject=subject)
    before = (machine / "etc/ssl/certs/ca-certificates.crt").read_text()
    identify(harness, machine, [{"certificate": ca.certificate}])
    found = everything(machine / "etc/ssl/certs")
    said = subprocess.run(
        ["openssl", "x509", "-in", str(ca.file), "-noout", "-subject_hash"], capture_output=True, check=True
    )
    assert found == {
        "ca-certificates.crt": (before + ca.certificate).encode(),
        "sandbox.pem": "/usr/local/share/ca-certificates/sandbox.crt",
        f"{said.stdout.decode().strip()}.0": "sandbox.pem",
    }
    assert (machine / "usr/local/share/ca-certificates/sandbox.crt").read_text() == ca.certificate
    assert (machine / "etc/sandbox/trust/ca.crt").read_text() == ca.certificate


def test_a_snapshots_certificate_makes_room_for_the_new_one(harness: Any, machine: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    old, new = (OwnCa.create(tmp_path, name) for name in ("old", "new"))
    shutil.copytree(machine, once)
    shutil.copytree(machine, twice)
    identify(harness, once, [{"certificate": new.certificate}])
    identify(harness, twice, [{"certificate": ca.certificate} for ca in (old, new, new)])
    assert everything(twice) == everything(once)


def test_one_of_the_same_name_takes_its_place(harness: Any, machine: Path, tmp_path: Path) -> None:
    first, second = (OwnCa.create(tmp_path, name, subject="/CN=Sandbox CA") for name in ("a", "b"))
    identify(harness, machine, [{"certificate": first.certificate}, {"certificate": second.certificate}])
    links = [path for path in (machine / "etc/ssl/certs").iterdir() if path.is_symlink()]
    assert sorted(path.suffix for path in links) == [".0", ".pem"]
    assert first.certificate not in (machine / "etc/ssl/certs/ca-certificates.crt").read_text()


def test_anothers_link_of_the_same_hash_stays(harness: Any, machine: Path, tmp_path: Path) -> None:
    ca = OwnCa.create(tmp_path, "mine")
    identify(harness, machine, [{"certificate": ca.certificate}])
    (link,) = (machine / "etc/ssl/certs").glob("*.0")
    identify(harness, machine, [{"certificate": None}])
    link.symlink_to("other.pem")
    identify(harness, machine, [{"certificate": ca.certificate}])
    assert link.readlink() == Path("other.pem") and link.with_suffix(".1").readlink() == Path("sandbox.pem")


def test_without_one_nothing_changes_and_an_old_one_goes(harness: Any, machine: Path, tmp_path: Path) -> None:
    before = everything(machine)
    identify(harness, machine, [{"certificate": None}, {}])
    assert everything(machine) == before
    ca = OwnCa.create(tmp_path, "mine")
    identify(harness, machine, [{"certificate": ca.certificate}])
    with_it = everything(machine)
    # As a live change of the package clients' files asks: it is not about certificates.
    identify(harness, machine, [{"files": []}])
    assert everything(machine) == with_it
    identify(harness, machine, [{"certificate": None}])
    assert everything(machine) == before


def test_a_store_that_was_made_anew_without_it_gets_it_again(harness: Any, machine: Path, tmp_path: Path) -> None:
    ca = OwnCa.create(tmp_path, "mine")
    bundle = machine / "etc/ssl/certs/ca-certificates.crt"
    before = bundle.read_bytes()
    identify(harness, machine, [{"certificate": ca.certificate}])
    bundle.write_bytes(before)
    identify(harness, machine, [{"certificate": ca.certificate}])
    assert bundle.read_bytes() == before + ca.certificate.encode()


def test_what_is_no_certificate_is_refused_and_changes_nothing(harness: Any, machine: Path) -> None:
    before = everything(machine)
    for text in ("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(Exception, match="identity failed in the guest"):
            identify(harness, machine, [{"certificate": text}])
        assert everything(machine) == before


def test_the_bundle_is_one_that_openssl_reads(harness: Any, machine: Path, tmp_path: Path) -> None:
    ca = OwnCa.create(tmp_path, "mine")
    bundle = machine / "etc/ssl/certs/ca-certificates.crt"
    bundle.write_text(bundle.read_text().rstrip("\n"))
    identify(harness, machine, [{"certificate": ca.certificate}])
    context = ssl.create_default_context(cafile=str(bundle))
    assert {dict(part[0] for part in row["subject"])["commonName"] for row in context.get_ca_certs()} == {
        "world",
        "mine",
    }


def test_running_containers_see_the_new_one(harness: Any, machine: Path, tmp_path: Path) -> None:
    old, new = (OwnCa.create(tmp_path, name) for name in ("old", "new"))
    identify(harness, machine, [{"certificate": old.certificate}])
    inside = machine / "run/containerd/io.containerd.runtime.v2.task/moby/c1/sandbox"
    inside.mkdir(parents=True)
    (inside.parent.with_name("c2")).mkdir()
    (inside / "ca.crt").write_text(old.certificate)
    (inside / "ca-certificates.crt").write_text(f"image's own\n{old.certificate}")
    number = (inside / "ca-certificates.crt").stat().st_ino
    (inside / "cacerts").write_bytes(b"old")
    identify(harness, machine, [{"certificate": new.certificate}])
    assert (inside / "ca.crt").read_text() == new.certificate
    assert (inside / "ca-certificates.crt").read_text() == f"image's own\n{new.certificate}"
    # The very file: it may be mounted in the container by its name.
    assert (inside / "ca-certificates.crt").stat().st_ino == number
    assert (inside / "cacerts").read_bytes() == (machine / "etc/sandbox/trust/cacerts").read_bytes()


KEYTOOL = shutil.which("keytool")


def aliases(store: Path) -> list[str]:
    assert KEYTOOL is not None
    listed = subprocess.run(
        [KEYTOOL, "-list", "-keystore", str(store), "-storepass", "changeit"], capture_output=True, text=True
    )
    assert listed.returncode == 0, listed.stdout + listed.stderr
    return sorted(line.partition(",")[0] for line in listed.stdout.splitlines() if "trustedCertEntry" in line)


@pytest.mark.skipif(KEYTOOL is None, reason="there is no Java here")
def test_javas_store(harness: Any, machine: Path, tmp_path: Path) -> None:
    old, new = (OwnCa.create(tmp_path, name) for name in ("old", "new"))
    store = machine / "etc/ssl/certs/java/cacerts"
    store.parent.mkdir()
    give = [str(KEYTOOL), "-importcert", "-noprompt", "-storetype", "JKS", "-storepass", "changeit"]
    subprocess.run(
        [*give, "-alias", "debian:world.pem", "-file", str(tmp_path / "world.crt"), "-keystore", str(store)],
        check=True,
        capture_output=True,
    )
    before = store.read_bytes()
    identify(harness, machine, [{"certificate": ca.certificate} for ca in (old, new)])
    assert aliases(store) == ["debian:sandbox.pem", "debian:world.pem"]
    assert aliases(machine / "etc/sandbox/trust/cacerts") == ["ca0", "ca1"]
    identify(harness, machine, [{"certificate": None}])
    assert store.read_bytes() == before
    store.write_bytes(b"0\x82 another form")
    identify(harness, machine, [{"certificate": new.certificate}])
    assert store.read_bytes() == b"0\x82 another form"
