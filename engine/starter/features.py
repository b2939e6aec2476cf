"""Features of dev containers, and the Debian packages that replace them."""

from __future__ import annotations

# The last part of a feature's name -> its packages; none where every machine has the feature already.
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
# Features whose option `packages` is a list of Debian packages.
PACKAGE_LISTS = ("apt-packages", "apt-get-packages")


def short_name(feature: str) -> str:
    """The last part of a feature's name: `node` for `ghcr.io/devcontainers/features/node:1`."""
    return feature.rpartition("/")[2].partition("@")[0].partition(":")[0]
