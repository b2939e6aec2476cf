"""What apt is told, and what its failures mean to a user."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.build.toolchain import apt
from engine.build.toolchain.recipe import ToolchainError
from engine.resolve.debian import DebianMirrors
from vmm.process import ProcessError

MIRRORS = DebianMirrors("http://mirror.example/debian", "http://mirror.example/security")


def prepare(directory: Path, mirrors: DebianMirrors = MIRRORS) -> dict[str, str]:
    apt._prepare(directory, "trixie", Path("/keys.gpg"), mirrors)
    return {name: (directory / name).read_text() for name in ("apt.conf", "sources.list", "status")}


def test_every_directory_is_private(tmp_path: Path) -> None:
    conf = prepare(tmp_path)["apt.conf"]
    for name in ("Dir::State", "Dir::State::status", "Dir::Cache", "Dir::Etc::sourcelist"):
        line = next(line for line in conf.splitlines() if line.startswith(f"{name} "))
        assert str(tmp_path) in line
    assert 'Dir::Etc::sourceparts "/dev/null"' in conf
    assert prepare(tmp_path)["status"] == ""


@pytest.mark.parametrize("hook", ["APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success", "DPkg::Post-Invoke"])
def test_the_hooks_of_the_host_are_cleared(tmp_path: Path, hook: str) -> None:
    assert f"#clear {hook};" in prepare(tmp_path)["apt.conf"]


def test_sources_are_signed_and_hold_packages_only(tmp_path: Path) -> None:
    lines = prepare(tmp_path)["sources.list"].splitlines()
    assert [line.split("] ")[1] for line in lines] == [
        "http://mirror.example/debian trixie main",
        "http://mirror.example/debian trixie-updates main",
        "http://mirror.example/security trixie-security main",
    ]
    assert all("signed-by=/keys.gpg" in line and "target=Packages" in line for line in lines)


def test_unverified_packages_are_never_allowed(tmp_path: Path) -> None:
    conf = prepare(tmp_path)["apt.conf"]
    assert 'APT::Get::AllowUnauthenticated "false"' in conf
    assert 'Acquire::AllowInsecureRepositories "false"' in conf


def test_a_host_without_a_security_archive_has_two_sources(tmp_path: Path) -> None:
    lines = prepare(tmp_path, DebianMirrors("http://mirror.example/debian/", None))["sources.list"].splitlines()
    assert len(lines) == 2
    assert "debian/ " not in lines[0]


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("E: Write error - write (28: No space left on device)", "full"),
        ("E: You don't have enough free space in /x/cache/archives/.", "full"),
        ("W: GPG error: ... NO_PUBKEY 0123456789ABCDEF", "debian-archive-keyring"),
        ("Err:5 http://mirror.example qemu\n  File has unexpected size (1 != 2). Mirror sync in progress?", "again"),
        ("E: Failed to fetch http://mirror.example/x.deb  Hash Sum mismatch", "again"),
        ("E: Failed to fetch http://mirror.example/x.deb  Error reading from server. Remote end closed", "again"),
        ("E: Failed to fetch http://mirror.example/x.deb  503  Service Unavailable [IP: 192.0.2.1 80]", "later"),
        ("E: Failed to fetch http://mirror.example/x  Temporary failure resolving", "reachable"),
        ("E: Failed to fetch http://mirror.example/x  connect (111: Connection refused)", "reachable"),
    ],
)
def test_a_failure_says_what_to_do(output: str, hint: str) -> None:
    error = apt._explain(ProcessError(["apt-get", "install"], 100, output), "no packages")
    assert isinstance(error, ToolchainError)
    assert error.hint is not None and hint in error.hint
    assert error.details is not None and output.splitlines()[-1].strip() in error.details


def test_packages_are_read_off_their_files(tmp_path: Path) -> None:
    archives = tmp_path / "cache/archives"
    archives.mkdir(parents=True)
    for name in ("qemu-utils_1%3a10.0.13+ds-0_amd64.deb", "busybox-static_1.37-6_amd64.deb", "lock"):
        (archives / name).touch()
    assert [(item.name, item.version) for item in apt._downloaded(tmp_path)] == [
        ("busybox-static", "1.37-6"),
        ("qemu-utils", "1:10.0.13+ds-0"),
    ]


def test_a_host_without_keys_is_told_which_package_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(apt, "KEYRINGS", (tmp_path / "none.gpg",))
    with pytest.raises(ToolchainError) as caught:
        apt.find_keyring()
    assert caught.value.hint is not None and "debian-archive-keyring" in caught.value.hint
