"""What the guest image is made of: arguments of mmdebstrap and lists of packages.

It is the same wherever it is built.
"""

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

RECIPE_VERSION = 1  # raise it when anything changes the image that is no input in `image_key`
ROOT, PACKAGES = "root.erofs", "packages.txt"  # the files that the recipe makes, besides GUEST_CLIENTS
SCRIPTS = ("recipe.sh", "hook-base.sh", "hook-packages.sh", "clients.py")  # in this directory
CA_DIRECTORY = Path("/usr/local/share/ca-certificates")
# Fixed, so that equal contents give an equal image.
FILESYSTEM_UUID = "5a4e6b0c-1c5d-4f0e-9c0a-5f6d0f1a7b21"
EPOCH = 1735689600
STAGE = "==> "  # how the scripts mark the lines that a user should see

# The packages of the container base image `localhost/debian:13`; the guest has them, too.
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
    "openssh-server",  # `sandbox ssh-proxy` starts it for one connection; it never listens
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

# The packages of the root file system that the recipe runs in. They are unpacked and never configured.
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

_SPECIAL, _ESCAPE = re.compile(r"[][.*^$|\\/]"), r"\\\g<0>"  # characters that sed would interpret

MIRROR_SETTINGS = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")


class ImageError(EngineError):
    """The guest image could not be built."""


def mirror_settings() -> dict[str, str]:
    """Settings that the host's apt needs for its mirror.

    The guest's apt needs them, too: a frozen mirror is expired.
    """
    return host_settings(MIRROR_SETTINGS)


def mmdebstrap_arguments(debian_architecture: str, settings: Mapping[str, str]) -> list[str]:
    """The arguments of mmdebstrap in the build root. It reads /build, and makes the root in /scratch/root.

    `settings` are further settings of apt, for the build and for the guest.
    """
    options = ["force-unsafe-io"]  # after a crash the root is thrown away, so it need not be synced to the disk
    options += [f"path-exclude={path}" for path in NOT_INSTALLED_PATHS]
    options += [f"path-include={path}" for path in INSTALLED_PATHS]
    return [
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--architectures={debian_architecture}",
        "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
        # The hooks pack the root while mmdebstrap still has it set up as a chroot: no file may be a stand-in then.
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
    """The CA certificates that the host's administrator has added, by file name. The guest trusts them, too."""
    return {file.name: file.read_bytes() for file in sorted(directory.glob("*.crt")) if file.is_file()}


def image_key(tool_key: str) -> tuple[str, dict[str, str]]:
    """The content key of the guest image, and the named inputs that it is the hash of.

    The place where it is built is no input, since the recipe is the same. The mirror is no input, since the packages
    are signed.
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
    """Functions that change the hooks, by the name of the hook, so that none of `tokens` gets into an image.

    Tokens are credentials in the mirror's URL. The build itself needs the URL with them; the guest image and the
    container base image must not have them. Without tokens nothing is changed.
    """
    if not tokens:
        return {}
    edits = "; ".join(f"s|{_SPECIAL.sub(_ESCAPE, token)}|{LEFT_OUT}|g" for token in dict.fromkeys(tokens))
    edit = f"sed -i {shlex.quote(edits)}"
    sources, kept = '"$root/etc/apt/sources.list"', "/scratch/sources.list"
    moved = f"sources.list {sources}\n"

    def base(text: str) -> str:
        before, move, after = text.partition(moved)
        assert move, "the hook moves the list to its place"
        return f"{before}{move}cp {sources} {kept}\n{edit} {sources}\n{after}cp {kept} {sources}\n"

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
    """Reports a few lines of the recipe's thousands: its stages, and from time to time the number of packages."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._counts: dict[str, int] = {}

    def __call__(self, line: str) -> None:
        if line.startswith(STAGE):
            self._report(line.removeprefix(STAGE))
            return
        if line.startswith("I: "):  # a stage of mmdebstrap; those that it skips, and the hooks, are not reported
            if not line.startswith(("I: skipping", "I: running")):
                self._report(line.removeprefix("I: ").removesuffix("..."))
            return
        for start, verb in (("Unpacking ", "unpacked"), ("Setting up ", "set up")):
            if line.startswith(start):
                self._counts[verb] = self._counts.get(verb, 0) + 1
                if self._counts[verb] % 50 == 0:
                    self._report(f"{verb} {self._counts[verb]} packages")
