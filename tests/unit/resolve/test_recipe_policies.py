"""The recipes of docs/network.md: each is a valid file, whose policy allows and refuses what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest
from network_page import recipes

from engine.gateway.policy import Policy
from engine.resolve.endpoints import Registries
from sandboxfile import parse

# Heading of the page -> requests (method, host and target) that are allowed, and that are refused.
RECIPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "GitHub, read-only": (
        (
            "GET github.com/acme/shop.git/info/refs?service=git-upload-pack",
            "POST github.com/acme/shop.git/git-upload-pack",
        ),
        (
            "POST github.com/acme/shop.git/git-receive-pack",
            "GET github.com/acme/other.git/info/refs?service=git-upload-pack",
            "POST github.com/acme/other.git/git-upload-pack",
            "GET github.com/acme/shop.git/info/lfs/locks",
            "GET github.com/acme/shop/settings",
            "POST api.github.com/graphql",
        ),
    ),
    "GitHub, by repository and operation": (
        (
            "GET github.com/acme/shop.git/info/refs?service=git-upload-pack",
            "POST github.com/acme/shop.git/git-upload-pack",
        ),
        ("POST github.com/acme/shop.git/git-receive-pack", "POST github.com/acme/other.git/git-upload-pack"),
    ),
    "Ollama on this host": ((), ("GET localhost/", "GET api.example.com/")),
    "A database": ((), ("GET db.example.com/",)),
    "A corporate proxy": (("GET api.example.com/",), ("GET example.com/",)),
    "A private registry of packages": (
        ("GET packages.example.com/npm/tiny", "GET packages.example.com/simple/tiny/", "HEAD packages.example.com/"),
        ("PUT packages.example.com/npm/tiny", "POST packages.example.com/upload", "DELETE packages.example.com/tiny"),
    ),
    "A private registry of images": (
        ("GET registry.example.com/v2/", "HEAD registry.example.com/v2/shop/manifests/latest"),
        ("POST registry.example.com/v2/shop/blobs/uploads/", "PUT registry.example.com/v2/shop/manifests/latest"),
    ),
}
# Heading of the page -> the hosts that get its credential.
CREDENTIALS = {
    "GitHub, read-only": {"github.com"},
    "GitHub, by repository and operation": {"github.com", "api.github.com", "raw.githubusercontent.com"},
    "A private registry of packages": {"packages.example.com"},
    "A private registry of images": {"registry.example.com"},
}


def policy(text: str) -> Policy:
    sandbox = parse(f'version: "1"\n{text}', Path("/p/Sandboxfile.yaml")).sandbox
    return Registries().policy(sandbox.endpoints, dict.fromkeys(sandbox.secrets))


def allows(policy: Policy, request: str) -> bool:
    method, _, url = request.partition(" ")
    host, slash, target = url.partition("/")
    return policy.judge(host, 443, method, slash + target).allowed


def test_every_recipe_of_the_page_is_looked_at() -> None:
    assert set(recipes()) == set(RECIPES)


@pytest.mark.parametrize("heading", RECIPES)
def test_a_recipe_does_what_the_page_says(heading: str) -> None:
    made = policy(recipes()[heading])
    allowed, refused = RECIPES[heading]
    assert [request for request in allowed if not allows(made, request)] == []
    assert [request for request in refused if allows(made, request)] == []


@pytest.mark.parametrize("heading", RECIPES)
def test_a_credential_goes_to_its_hosts_alone(heading: str) -> None:
    hosts = {rule.host for rule in policy(recipes()[heading]).rules if rule.injections}
    assert hosts == CREDENTIALS.get(heading, set())
