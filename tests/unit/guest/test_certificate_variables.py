"""The variables that make programs read the roots of the guest: the same for logins, units, sudo and containers."""

from __future__ import annotations

import re
from pathlib import Path

from vmm import guest

ROOTFS = Path(guest.__file__).with_name("rootfs")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
OF_APT_AND_WGET = {"APT_CONFIG", "SYSTEM_WGETRC"}  # both read the machine's store by themselves, a container's not
OF_JAVA = {"JAVA_TOOL_OPTIONS"}  # likewise: Debian's Java reads the store that guestd changes
WITHOUT_A_FILE = {"NODE_USE_SYSTEM_CA"}  # Node's own switch, which needs the machine's store


def of_logins() -> set[str]:
    return set(re.findall(rf"^(\w+)={BUNDLE}$", (ROOTFS / "etc/environment").read_text(), re.MULTILINE))


def test_logins_know_what_agents_programs_and_registries_read() -> None:
    assert of_logins() >= {
        *("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"),
        *("PIP_CERT", "CODEX_CA_CERTIFICATE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "DENO_CERT", "AWS_CA_BUNDLE"),
    }


def test_units_have_the_same() -> None:
    text = (ROOTFS / "etc/systemd/system.conf.d/sandbox.conf").read_text()
    assert set(re.findall(rf"^DefaultEnvironment=(\w+)={BUNDLE}$", text, re.MULTILINE)) == of_logins()


def test_sudo_keeps_the_same() -> None:
    text = (ROOTFS / "etc/sudoers.d/sandbox").read_text()
    kept = {name for names in re.findall(r'env_keep \+= "([^"]*)"', text) for name in names.split()}
    assert kept - WITHOUT_A_FILE == of_logins()


def test_containers_have_the_same_and_what_only_they_need() -> None:
    text = (ROOTFS / "usr/lib/sandbox/trust/trust.jq").read_text()
    assert set(re.findall(r'"(\w+)=[^"]*/dev/sandbox/', text)) == of_logins() | OF_APT_AND_WGET | OF_JAVA
