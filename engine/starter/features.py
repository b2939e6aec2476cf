"""Features of dev containers, and what stands for them in a machine that is Debian."""

from __future__ import annotations

# By the last part of the feature's name. Empty: the machine has it already.
PACKAGES: dict[str, tuple[str, ...]] = {
    "aws-cli": ("awscli",),
    "common-utils": (),
    "docker-from-docker": (),
    "docker-in-docker": (),
    "docker-outside-of-docker": (),
    "git": (),
    "git-lfs": ("git-lfs",),
    "github-cli": ("gh",),
    "go": ("golang-go",),
    "java": ("default-jdk-headless",),
    "node": (),
    "php": ("php-cli",),
    "python": (),
    "ruby": ("ruby-dev", "ruby-bundler"),
    "rust": ("cargo",),
}
# Features whose option is a list of Debian packages.
PACKAGE_LISTS = ("apt-packages", "apt-get-packages")


def short_name(feature: str) -> str:
    """`node` of `ghcr.io/devcontainers/features/node:1`."""
    return feature.rpartition("/")[2].partition("@")[0].partition(":")[0]
