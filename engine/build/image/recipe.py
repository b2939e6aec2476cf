"""What the guest image is made of: mmdebstrap's arguments and package lists, the same wherever it is built."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from engine.build.toolchain.apt import host_settings
from engine.build.toolchain.recipe import architecture
from engine.errors import EngineError
from engine.resolve.debian import SUITE
from engine.secrets.tokens import LEFT_OUT, tokens_in
from engine.state.keys import bytes_key, inputs_key

RECIPE_VERSION = 1  # raise it when something outside the files and lists named in `image_key` changes the image
ROOT, PACKAGES = "root.erofs", "packages.txt"  # what the recipe makes, beside GUEST_CLIENTS
SCRIPTS = ("recipe.sh", "hook-base.sh", "hook-packages.sh", "clients.py")  # as found beside this file
CA_DIRECTORY = Path("/usr/local/share/ca-certificates")
# Fixed, so that equal contents give an equal image.
FILESYSTEM_UUID = "5a4e6b0c-1c5d-4f0e-9c0a-5f6d0f1a7b21"
EPOCH = 1735689600
STAGE = "==> "  # how the scripts mark the lines that a user should see

# In the container base image `localhost/debian:13`, and so in the guest too.
BASE_PACKAGES = ("ca-certificates",)

GUEST_PACKAGES = (
    "systemd-sysv",
    "dbus",
    "docker.io",
    "docker-cli",
    "docker-compose",
    "docker-buildx",
    "iproute2",
    "iptables",
    "dnsmasq-base",
    "git",
    "curl",
    "openssh-client",
    "python3",
    "python3-pip",
    "python3-venv",
    "nodejs",
    "npm",
    "sudo",
    "procps",
    "e2fsprogs",
    "jq",
    "less",
    "xz-utils",
    "unzip",
    "rsync",
    "kmod",
)

# What the recipe itself runs in: a root file system of unpacked packages, never configured.
BUILD_ROOT_PACKAGES = (
    "mmdebstrap",
    "apt",
    "dpkg",
    "sqv",
    "perl",
    "bash",
    "dash",
    "coreutils",
    "findutils",
    "grep",
    "sed",
    "mawk",
    "diffutils",
    "hostname",
    "tar",
    "gzip",
    "xz-utils",
    "zstd",
    "util-linux",
    "mount",
    "base-files",
    "base-passwd",
    "libc-bin",
    "debian-archive-keyring",
    "ca-certificates",
    "erofs-utils",
    "kmod",
)

NOT_INSTALLED_PATHS = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/linda/*",
    "/usr/share/locale/*",
    "/usr/share/gnome/help/*",
    "/usr/share/zsh/*",
    "/usr/share/fish/*",
)
INSTALLED_PATHS = ("/usr/share/doc/*/copyright",)

_SPECIAL, _ESCAPE = re.compile(r"[][.*^$|\\/]"), r"\\\g<0>"  # of sed

MIRROR_SETTINGS = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")


class ImageError(EngineError):
    """The guest image could not be built."""


def mirror_settings() -> dict[str, str]:
    """What the host's apt must be told about its mirror, the guest's must be told too: a frozen one is out of date."""
    return host_settings(MIRROR_SETTINGS)


def mmdebstrap_arguments(debian_architecture: str, settings: Mapping[str, str]) -> list[str]:
    """The arguments in the build root: result in /scratch/root, sources and hooks from /build.

    `settings` are further apt settings, for the build and for the guest.
    """
    options = ["force-unsafe-io"]  # the root is packed into an image: no state of it survives a crash anyway
    options += [f"path-exclude={path}" for path in NOT_INSTALLED_PATHS]
    options += [f"path-include={path}" for path in INSTALLED_PATHS]
    return [
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--architectures={debian_architecture}",
        "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
        # The hooks pack the root while it is still set up as a chroot: nothing in it may be replaced meanwhile.
        "--skip=chroot/start-stop-daemon",
        *(f"--dpkgopt={option}" for option in options),
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Retries "3"',
        *(f'--aptopt={name} "{value}"' for name, value in sorted(settings.items())),
        f"--include={','.join(BASE_PACKAGES)}",
        "--customize-hook=/build/hook-base.sh",
        "--customize-hook=/build/hook-packages.sh",
        SUITE,
        "/scratch/root",
        "/build/sources.list",
    ]


def host_certificates(directory: Path = CA_DIRECTORY) -> dict[str, bytes]:
    """The CAs that the host's administrator added, by file name; the guest trusts the same ones."""
    return {file.name: file.read_bytes() for file in sorted(directory.glob("*.crt")) if file.is_file()}


def image_key(tool_key: str) -> tuple[str, dict[str, str]]:
    """The content key of the guest image and the named inputs it is the hash of.

    Where it is built, and from which mirror, is no input: the recipe is the same and the packages are signed.
    """
    inputs = {
        "recipe": str(RECIPE_VERSION),
        "toolchain": tool_key,
        "suite": SUITE,
        "architecture": architecture().debian,
        "mmdebstrap": bytes_key(json.dumps(mmdebstrap_arguments(architecture().debian, mirror_settings())).encode()),
        "packages": " ".join(sorted((*BASE_PACKAGES, *GUEST_PACKAGES))),
        "build packages": bytes_key(" ".join(sorted(BUILD_ROOT_PACKAGES)).encode()),
        "filesystem": f"{FILESYSTEM_UUID} {EPOCH}",
    }
    inputs |= {f"script {name}": bytes_key(Path(__file__).with_name(name).read_bytes()) for name in SCRIPTS}
    inputs |= {f"certificate {name}": bytes_key(data) for name, data in host_certificates().items()}
    return inputs_key(inputs), inputs


def leave_out(tokens: Collection[str]) -> dict[str, Callable[[str], str]]:
    """How to change the hooks, by name, so that no credential in the mirror's URL comes into image or base container.

    The build itself needs the URL as it is. Without credentials there is nothing to change.
    """
    if not tokens:
        return {}
    edits = "; ".join(f"s|{_SPECIAL.sub(_ESCAPE, token)}|{LEFT_OUT}|g" for token in dict.fromkeys(tokens))
    edit = f"sed -i {shlex.quote(edits)}"
    sources, kept = '"$root/etc/apt/sources.list"', "/scratch/sources.list"
    moved = f"sources.list {sources}\n"

    def base(text: str) -> str:
        before, found, after = text.partition(moved)
        assert found, "the hook moves the list to its place"
        return f"{before}{found}cp {sources} {kept}\n{edit} {sources}\n{after}cp {kept} {sources}\n"

    def packages(text: str) -> str:
        return f'{text}rm {kept}\n{edit} {sources} "$root/usr/share/sandbox/clients.json"\n'

    return {"hook-base.sh": base, "hook-packages.sh": packages}


def write_inputs(directory: Path, source_lines: Sequence[str], certificates: dict[str, bytes]) -> None:
    """Fill `directory`, which is /build in the build root, with what the scripts read."""
    (directory / "certificates").mkdir(parents=True)
    without = leave_out([token for line in source_lines for word in line.split() for token in tokens_in(word)])
    for name in SCRIPTS:
        target = directory / name
        target.write_text(without.get(name, str)(Path(__file__).with_name(name).read_text()))
        target.chmod(0o755)
    for name, data in certificates.items():
        (directory / "certificates" / name).write_bytes(data)
    lists = {
        "arguments": mmdebstrap_arguments(architecture().debian, mirror_settings()),
        "packages": list(GUEST_PACKAGES),
        "sources.list": list(source_lines),
        "filesystem": ["-U", FILESYSTEM_UUID, "-T", str(EPOCH)],
        "epoch": [str(EPOCH)],
    }
    for name, lines in lists.items():
        (directory / name).write_text("\n".join(lines) + "\n")


class RecipeProgress:
    """Turns the recipe's output, thousands of lines, into a few: its own stages and a count of packages."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._counts: dict[str, int] = {}

    def __call__(self, line: str) -> None:
        if line.startswith(STAGE):
            self._report(line.removeprefix(STAGE))
            return
        if line.startswith("I: "):  # mmdebstrap's own stages; what it skips or calls is in the recipe
            if not line.startswith(("I: skipping", "I: running")):
                self._report(line.removeprefix("I: ").removesuffix("..."))
            return
        for start, verb in (("Unpacking ", "unpacked"), ("Setting up ", "set up")):
            if line.startswith(start):
                self._counts[verb] = self._counts.get(verb, 0) + 1
                if self._counts[verb] % 50 == 0:
                    self._report(f"{verb} {self._counts[verb]} packages")
