"""What stands in front of runc in the guest: run here, with a runc that only tells how it was called."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vmm import guest

ROOTFS = Path(guest.__file__).with_name("rootfs")
WRAPPER = ROOTFS / "usr/local/sbin/runc"
GUEST_STORE, OURS = "the machine's\nours\n", "ours\n"
STORE = "etc/ssl/certs/ca-certificates.crt"

JQ = shutil.which("jq")
pytestmark = pytest.mark.skipif(JQ is None, reason="the guest's jq is not here")


def largest() -> int:
    """What may be in a config.json: jq before 1.7 rounds it; the guest's does not, as a scenario shows."""
    said = subprocess.run([str(JQ), "."], input=str(2**64 - 1), capture_output=True, text=True, check=True).stdout
    return 2**64 - 1 if int(said) == 2**64 - 1 else 2**53


@dataclass
class Machine:
    """A guest's root beneath `base`, and the bundle of one container whose image is in `image`."""

    base: Path

    @property
    def image(self) -> Path:
        return self.base / "image"

    @property
    def bundle(self) -> Path:
        return self.base / "run/containerd/io.containerd.runtime.v2.task/moby/c1"

    @property
    def given(self) -> Path:
        """What the container finds at /dev/sandbox."""
        return self.bundle / "sandbox"

    def write(self, name: str, text: str) -> None:
        (self.base / name).parent.mkdir(parents=True, exist_ok=True)
        (self.base / name).write_text(text)

    def config(self, *, env: list[str] | None = None, dev: str = "tmpfs", **root: Any) -> dict[str, Any]:
        config = {
            "ociVersion": "1.2.0",
            "process": {"args": ["sh", '"root":{"path":"/'], "env": env or ["PATH=/bin"], "rlimit": largest()},
            "root": {"path": str(self.image), **root},
            "mounts": [{"destination": "/proc", "type": "proc"}, {"destination": "/dev", "type": dev}],
        }
        (self.bundle / "config.json").write_text(json.dumps(config, separators=(",", ":")))
        return config

    def call(self, *words: str) -> list[str]:
        """What the real runc was called with."""
        log = self.base / "called"
        log.unlink(missing_ok=True)
        done = subprocess.run(
            [str(self.base / "usr/local/sbin/runc"), *words], capture_output=True, text=True, check=True, umask=0o022
        )
        assert (done.stdout, done.stderr) == ("runc speaks\n", "")
        return log.read_text().splitlines()

    def create(self, command: str = "create") -> dict[str, Any]:
        """config.json, as the real runc finds it."""
        words = ["--root", "/run", "--log-format", "json", command, "--bundle", str(self.bundle), "--pid-file", "p"]
        assert self.call(*words, "c1") == [*words, "c1"]
        return dict(json.loads((self.bundle / "config.json").read_text()))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """With a certificate to trust, and an image of a distribution that has a store."""
    machine = Machine(tmp_path)
    text = WRAPPER.read_text()
    for path in ("/etc/sandbox", "/usr/lib/sandbox", "/run/containerd", "/usr/sbin/runc", "/etc/ssl/certs/ca-c"):
        assert path in text
        text = text.replace(f" {path}", f" {tmp_path}{path}").replace(f"={path}", f"={tmp_path}{path}")
    machine.write("usr/local/sbin/runc", text)
    machine.write("usr/sbin/runc", f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/called\necho runc speaks\n')
    for name in ("usr/local/sbin/runc", "usr/sbin/runc"):
        (tmp_path / name).chmod(0o755)
    shutil.copytree(ROOTFS / "usr/lib/sandbox/trust", tmp_path / "usr/lib/sandbox/trust")
    machine.write("etc/sandbox/trust/ca.crt", OURS)
    machine.write("etc/sandbox/trust/cacerts", "java")
    machine.write(STORE, GUEST_STORE)
    machine.write(f"image/{STORE}", "the image's")
    machine.write("image/usr/sbin/update-ca-certificates", "")
    machine.bundle.mkdir(parents=True)
    return machine


def variables(process: dict[str, Any]) -> dict[str, str]:
    pairs = [line.partition("=") for line in process["env"]]
    assert len({name for name, _, _ in pairs}) == len(pairs)
    return {name: value for name, _, value in pairs}


def mounted(config: dict[str, Any]) -> dict[str, str]:
    return {mount["destination"]: mount["source"] for mount in config["mounts"] if mount["type"] == "bind"}


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_container_gets_the_certificate(machine: Machine, command: str) -> None:
    before = machine.config()
    after = machine.create(command)
    assert mounted(after) == {"/dev/sandbox": str(machine.given)}
    assert (machine.given / "ca-certificates.crt").read_text() == f"the image's\n{OURS}"
    assert (machine.given / "ca.crt").read_text() == OURS
    names = variables(after["process"])
    assert {"PATH", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} < set(names)
    assert {"GIT_SSL_CAINFO", "CODEX_CA_CERTIFICATE", "APT_CONFIG", "SYSTEM_WGETRC"} < set(names)
    assert "JAVA_TOOL_OPTIONS" not in names
    for value in names.values():
        if value.startswith("/dev/sandbox/"):
            assert (machine.given / Path(value).name).is_file()
    # All else is as it was.
    for config in (before, after):
        del config["mounts"][2:], config["process"]["env"]
    assert after == before
    assert {oct(path.stat().st_mode & 0o777) for path in machine.given.iterdir()} == {"0o644"}
    assert machine.given.stat().st_mode & 0o777 == 0o755


def test_what_image_or_user_have_set_stays(machine: Machine) -> None:
    machine.config(env=["SSL_CERT_FILE=/own=1", "APT_CONFIG="])
    found = variables(machine.create()["process"])
    assert (found["SSL_CERT_FILE"], found["APT_CONFIG"]) == ("/own=1", "")
    assert found["CURL_CA_BUNDLE"] == "/dev/sandbox/ca-certificates.crt"


def test_without_a_certificate_nothing_is_touched(machine: Machine) -> None:
    (machine.base / "etc/sandbox/trust/ca.crt").unlink()
    before = machine.config()
    assert machine.create() == before and not machine.given.exists()


@pytest.mark.parametrize("words", [["--version"], ["start", "c1"], ["--root", "/r", "delete", "--force", "create"], []])
def test_all_else_is_passed_on(machine: Machine, words: list[str]) -> None:
    before = machine.config()
    assert machine.call(*words) == (words or [""])
    assert json.loads((machine.bundle / "config.json").read_text()) == before


def test_an_image_without_a_store_gets_the_machines(machine: Machine) -> None:
    shutil.rmtree(machine.image)
    machine.image.mkdir()
    machine.config()
    assert mounted(machine.create()) == {"/dev/sandbox": str(machine.given)}
    assert (machine.given / "ca-certificates.crt").read_text() == GUEST_STORE


@pytest.mark.parametrize("linked", ["etc", "etc/ssl", STORE])
def test_a_link_in_the_image_does_not_lead_into_the_machine(machine: Machine, linked: str) -> None:
    machine.write("secret/ssl/certs/ca-certificates.crt", "secret")
    targets = {"etc": "secret", "etc/ssl": "secret/ssl", STORE: "secret/ssl/certs/ca-certificates.crt"}
    shutil.move(machine.image / linked, machine.base / "away")
    (machine.image / linked).symlink_to(machine.base / targets[linked])
    machine.config()
    machine.create()
    assert (machine.given / "ca-certificates.crt").read_text() == GUEST_STORE


def test_red_hats_place_is_known(machine: Machine) -> None:
    (machine.image / STORE).unlink()
    machine.write("image/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "red hat's\n")
    machine.config()
    machine.create()
    assert (machine.given / "ca-certificates.crt").read_text() == f"red hat's\n\n{OURS}"


def test_the_images_store_is_mounted_over_where_nobody_can_replace_it(machine: Machine) -> None:
    both = {"/dev/sandbox": str(machine.given), f"/{STORE}": str(machine.given / "ca-certificates.crt")}
    machine.config(readonly=True)
    assert mounted(machine.create()) == both
    shutil.rmtree(machine.given)
    (machine.image / "usr/sbin/update-ca-certificates").unlink()
    machine.config()
    assert mounted(machine.create()) == both
    shutil.rmtree(machine.given)
    machine.config()
    assert mounted(machine.create("run")) == {"/dev/sandbox": str(machine.given)}, "a build may bring the program"


def test_java(machine: Machine) -> None:
    machine.config(env=["JAVA_HOME=/opt/java"])
    options = variables(machine.create()["process"])["JAVA_TOOL_OPTIONS"]
    assert "trustStore=/dev/sandbox/cacerts" in options and (machine.given / "cacerts").read_text() == "java"


def test_wget_keeps_the_images_own_settings(machine: Machine) -> None:
    machine.write("image/etc/wgetrc", "passive_ftp = on")
    machine.config()
    machine.create()
    lines = (machine.given / "wgetrc").read_text().splitlines()
    assert lines == ["passive_ftp = on", "ca_certificate = /dev/sandbox/ca-certificates.crt"]


def test_a_dev_that_is_not_the_containers_own_gets_no_mount_point(machine: Machine) -> None:
    before = machine.config(dev="bind")
    assert machine.create() == before


def test_a_command_in_a_running_container(machine: Machine) -> None:
    machine.config()
    machine.create()
    process = machine.base / "process.json"
    process.write_text(json.dumps({"args": ["env"], "env": ["A=1", "CURL_CA_BUNDLE=/x"]}))
    process.chmod(0o600)
    words = ["--root", "/run", "exec", "--process", str(process), "--detach", "c1"]
    assert machine.call(*words) == words
    after = json.loads(process.read_text())
    assert variables(after)["CURL_CA_BUNDLE"] == "/x" and variables(after)["SSL_CERT_FILE"].startswith("/dev/sandbox")
    assert after["args"] == ["env"] and process.stat().st_mode & 0o777 == 0o600
    # One that was there before the certificate has no /dev/sandbox.
    process.write_text(json.dumps({"args": ["env"], "env": ["A=1"]}))
    machine.call(*words[:-1], "c2")
    assert json.loads(process.read_text())["env"] == ["A=1"]


def test_what_cannot_be_read_goes_on_as_it_is(machine: Machine) -> None:
    (machine.bundle / "config.json").write_text("{nonsense")
    words = ["create", "--bundle", str(machine.bundle), "c1"]
    assert machine.call(*words) == words
    assert (machine.bundle / "config.json").read_text() == "{nonsense"
    assert {path.name for path in machine.bundle.iterdir()} <= {"config.json", "sandbox"}
