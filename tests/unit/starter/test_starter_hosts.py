"""Which hosts the names of images and URLs of a project stand for."""

from __future__ import annotations

import pytest

from engine.starter.hosts import host_of
from sandboxfile.compose.images import DOCKER_HUB, image_hosts


@pytest.mark.parametrize(
    ("image", "hosts"),
    [
        ("postgres:17", DOCKER_HUB),
        ("acme/web", DOCKER_HUB),
        ("docker.io/acme/web", DOCKER_HUB),
        ("ghcr.io/acme/web:1", ("ghcr.io",)),
        ("registry.example:5000/web", ("registry.example:5000",)),
        ("localhost/debian:13", ()),
        ("localhost:5000/x", ()),
        ("10.0.0.1:5000/x", ()),
        ("${IMAGE}", ()),
        ("scratch", ()),
        ("", ()),
        ("." * 500_000, DOCKER_HUB),
        ("." * 500_000 + "/", ()),
    ],
)
def test_hosts_of_images(image: str, hosts: tuple[str, ...]) -> None:
    assert image_hosts(image) == hosts


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Gems.Example.com/x", "gems.example.com"),
        ("https://user:pw@gems.example.com:8443/", "gems.example.com:8443"),
        ("http://gems.example.com:80", "gems.example.com"),
        ("git+ssh://git@example.com/a", "example.com"),
        ("git@example.com:acme/shop", "example.com"),
        ("https://10.0.0.1/", None),
        ("https://[::1]/", None),
        ("https://localhost/", None),
        ("https://x.example:99999/", None),
        ("file:///etc/passwd", None),
        ("https://exa\nmple.com/", "example.com"),
        ("https://a b/", None),
        ("https://*.example.com/", None),
        ("", None),
    ],
)
def test_hosts_of_urls(url: str, host: str | None) -> None:
    assert host_of(url) == host
