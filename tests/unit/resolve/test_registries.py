from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.resolve import clients, registries
from engine.resolve.clients import RegistryError
from engine.resolve.debian import DebianMirrors, debian_mirrors
from engine.resolve.registries import ClientSettings, Registry, client_settings, resolve_group

PIP_CONSTANTS = '["https://index.example/simple", "index.example", "files.example"]'
Answers = dict[str, str | None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """What the host's clients say, by the first words of the command; nothing else is run."""
    said: Answers = {}

    def ask(argv: list[str]) -> str | None:
        command = " ".join([Path(argv[0]).name.replace("python3", "python"), *argv[1:]])
        return next((answer for words, answer in said.items() if command.startswith(words)), None)

    monkeypatch.setattr(clients, "ask_client", ask)
    monkeypatch.setattr(clients.sys, "executable", "/opt/python")
    monkeypatch.delenv("SANDBOX_DEBIAN_MIRROR", raising=False)
    registries.forget()
    yield said
    registries.forget()


def test_an_unknown_group_names_the_known_ones() -> None:
    with pytest.raises(RegistryError) as caught:
        resolve_group("cargo", guest_clients=None)
    assert caught.value.hint == "groups are debian, npm, pypi"


def test_npm_of_the_host_beats_the_guest_s(answers: Answers) -> None:
    answers["npm config get registry"] = "https://npm.example:4873/repo/\n"
    expected = Registry(
        "npm", ("https://npm.example:4873/repo",), (("npm.example", 4873),), "host's npm configuration", True
    )
    assert resolve_group("npm", guest_clients={"npm": ["https://other.example"]}) == expected
    assert resolve_group("npm", guest_clients=None) == expected
    (rule,) = expected.rules()
    assert (rule.host, rule.port, rule.origin, rule.private) == ("npm.example", 4873, "group npm", True)


@pytest.mark.parametrize("answer", [None, "", "undefined\n", "ftp://npm.example"])
def test_the_guest_s_clients_count_where_the_host_has_none(answers: Answers, answer: str | None) -> None:
    answers["npm"] = answer
    found = resolve_group("npm", guest_clients={"npm": ["https://guest.example/"]})
    assert (found.urls, found.hosts) == (("https://guest.example",), (("guest.example", 443),))
    assert found.origin == "guest image's npm configuration"
    assert not found.rules()[0].private  # the image is not the user's word
    assert client_settings(["npm"]).npm_registry is None


@pytest.mark.parametrize("group", ["debian", "npm", "pypi"])
def test_no_client_anywhere(answers: Answers, group: str) -> None:
    with pytest.raises(RegistryError) as caught:
        resolve_group(group, guest_clients={})
    assert caught.value.brief == f"the group {group!r} cannot be resolved" and caught.value.hint


def test_pip_s_own_defaults_come_with_its_file_storage(answers: Answers) -> None:
    answers["python -c"] = PIP_CONSTANTS
    answers["python -m pip config list"] = "global.cert='/x'\nglobal.extra-index-url='file:///opt/simple'\n"
    found = resolve_group("pypi", guest_clients=None)
    assert found.hosts == (("index.example", 443), ("files.example", 443))
    assert found.origin == "pip's own default on the host"
    assert client_settings(["pypi"]) == ClientSettings(pip_index_url="https://index.example/simple")


def test_pip_s_configuration_in_its_order_of_precedence(answers: Answers) -> None:
    answers["python -c"] = PIP_CONSTANTS
    answers["python -m pip config list"] = (
        ":env:.index-url='http://user:secret@env.example:3141/root/+simple/'\n"
        "global.extra-index-url='https://x.example/simple file:///opt/simple\\nhttps://y.example/s'\n"
        "global.index-url='https://global.example/simple'\n"
        "install.index-url='https://install.example/simple'\n"
    )
    found = resolve_group("pypi", guest_clients=None)
    assert found.urls == ("http://env.example:3141/root/+simple", "https://x.example/simple", "https://y.example/s")
    assert found.origin == "host's pip configuration"
    assert client_settings(["pypi"]) == ClientSettings(
        pip_index_url=found.urls[0], pip_extra_index_urls=found.urls[1:], pip_trusted_hosts=("env.example",)
    )


INDEXTARGETS = """\
https://third.example/linux/debian|Third|Third|bookworm
http://mirror.example/debian/|Debian|Debian|bookworm
http://mirror.example/debian/|Debian|Debian|bookworm-updates
https://user:secret@security.example/debian-security/|Debian|Debian-Security|bookworm-security
"""


def test_apt_s_own_archives_and_no_third_party_s(answers: Answers) -> None:
    answers["apt-get indextargets"] = INDEXTARGETS
    found = resolve_group("debian", guest_clients=None)
    assert found.urls == ("http://mirror.example/debian", "https://security.example/debian-security")
    assert found.hosts == (("mirror.example", 80), ("security.example", 443))
    assert debian_mirrors() == DebianMirrors(*found.urls)
    assert client_settings(["debian"]).debian == debian_mirrors()


DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: trixie-security
Components: main non-free-firmware
# in the middle
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://third.example/debian
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main
"""

ONE_LINE = """\
# deb http://off.example/debian trixie main
deb http://mirror.example/debian trixie main contrib # and a comment
deb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg] http://mirror.example/debian-security trixie-security main
deb-src http://src.example/debian trixie main
deb https://third.example/linux/debian trixie stable
deb https://fourth.example/apt trixie main
deb [signed-by=/etc/apt/keyrings/fifth.gpg] https://fifth.example/debian trixie main
deb cdrom:[Debian]/ trixie main
"""


@pytest.mark.parametrize(("name", "text"), [("debian.sources", DEB822), ("debian.list", ONE_LINE)])
def test_sources_are_read_where_no_list_was_ever_downloaded(
    answers: Answers, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "third.list.disabled").write_text("deb http://off.example/debian trixie main\n")
    answers["apt-get indextargets"] = ""
    answers["apt-config shell"] = f"LIST='{tmp_path}/none'\nPARTS='{tmp_path}'\n"
    found = resolve_group("debian", guest_clients=None)
    assert found.urls == ("http://mirror.example/debian", "http://mirror.example/debian-security")
    assert found.origin == "host's apt sources"
    assert debian_mirrors() == DebianMirrors(*found.urls)


def test_a_mirror_list_is_read(answers: Answers, tmp_path: Path) -> None:
    (tmp_path / "mirrors").write_text("# nearest first\nhttps://near.example/debian priority:1\n")
    answers["apt-get indextargets"] = f"mirror+file:{tmp_path}/mirrors/|Debian|Debian|trixie\n"
    assert debian_mirrors() == DebianMirrors("https://near.example/debian", None)


def test_a_host_without_debian_says_what_to_do(answers: Answers) -> None:
    answers["apt-get indextargets"] = "http://ubuntu.example/ubuntu|Ubuntu|Ubuntu|noble\n"
    with pytest.raises(RegistryError) as caught:
        debian_mirrors()
    assert caught.value.hint and "SANDBOX_DEBIAN_MIRROR" in caught.value.hint


def test_the_variable_beats_apt(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    answers["apt-get indextargets"] = INDEXTARGETS
    monkeypatch.setenv("SANDBOX_DEBIAN_MIRROR", "https://own.example/debian/ https://own.example/security")
    assert debian_mirrors() == DebianMirrors("https://own.example/debian", "https://own.example/security")
    assert resolve_group("debian", guest_clients=None).hosts == (("own.example", 443),)
    monkeypatch.setenv("SANDBOX_DEBIAN_MIRROR", "own.example")
    with pytest.raises(RegistryError, match="SANDBOX_DEBIAN_MIRROR"):
        debian_mirrors()


def test_a_registry_by_address_cannot_be_reached(answers: Answers) -> None:
    answers["npm"] = "http://10.0.0.5:4873/"
    with pytest.raises(RegistryError, match="IP address"):
        resolve_group("npm", guest_clients=None).rules()


def test_nothing_is_asked_when_nothing_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(argv: list[str]) -> str | None:
        raise AssertionError(argv)

    monkeypatch.setattr(clients, "ask_client", ask)
    assert client_settings([]) == ClientSettings()
