"""`sandbox endpoints`: what each group and preset stands for, for people and programs."""

from __future__ import annotations

import json

import pytest
from cli_world import CommandLine

from sandboxfile.names import NAMED, PARAMETERISED, PRESETS
from sandboxfile.sections.endpoints import Endpoint


def test_the_list(sandbox: CommandLine) -> None:
    text = sandbox("endpoints", "ls").out
    assert "{github: OWNER/REPOSITORY}" in text and "read, issues, graphql, push" in text
    rows = json.loads(sandbox("endpoints", "ls", "--json").out)
    assert [row["name"] for row in rows] == sorted({*NAMED, *PARAMETERISED})
    assert {"name": "npm", "written": "npm", "access": ["read", "audit"]}.items() <= rows[
        [row["name"] for row in rows].index("npm")
    ].items()


@pytest.mark.parametrize("name", PRESETS)
def test_every_request_is_shown_with_its_source(sandbox: CommandLine, name: str) -> None:
    data = json.loads(sandbox("endpoints", "show", name, "--json").out)
    text = sandbox("endpoints", "show", name).out
    accesses = [*data["access"].values(), *([data["push"]] if "push" in data else [])]
    for access in accesses:
        for requests in access["requests"]:
            for path in requests["paths"] or ["/**"]:
                assert f"{', '.join(requests['methods'])} {requests['host']}{path}\n" in text
            assert f"[{requests['source']}]" in text and requests["why"] in text
    for source in data["sources"].values():
        assert source["date"] in text and (source.get("url") or source["seen"]) in text


def test_a_misspelt_name_is_suggested(sandbox: CommandLine) -> None:
    done = sandbox("endpoints", "show", "githib")
    assert "there is no group or preset 'githib'" in done.err and "did you mean 'github'?" in done.err


def test_it_is_added_to_a_file(sandbox: CommandLine) -> None:
    sandbox.file('version: "1"\n')
    sandbox("add", "endpoint", "github:acme/shop", "--push", "agent/*", "--access", "read", "--access", "issues")
    sandbox("add", "endpoint", "anthropic")
    sandbox("add", "endpoint", "npm", "--access", "read")
    config = json.loads(sandbox("config", "--json").out)
    assert config["endpoints"] == [
        {"github": ["acme/shop"], "access": ["read", "issues"], "push": ["agent/*"]},
        {"group": "anthropic"},
        {"group": "npm", "access": ["read"]},
    ]


def test_every_key_of_an_endpoint_has_an_option(sandbox: CommandLine) -> None:
    sandbox.file('version: "1"\nsecrets: {key: {env: KEY}}\n')
    sandbox("add", "endpoint", "api.example.com", "--secret", "key", "--secret-in", "query", "--foreign-credentials")
    sandbox("add", "endpoint", "git.corp.example.com", "--private", "--intercept")
    sandbox("add", "endpoint", "pinned.example.com", "--bypass")
    config = json.loads(sandbox("config", "--json").out)
    assert config["endpoints"] == [
        {"host": "api.example.com", "secret": "key", "secret_in": ["query"], "foreign_credentials": "allow"},
        {"host": "git.corp.example.com", "private": True, "intercept": True},
        {"host": "pinned.example.com", "bypass": True},
    ]
    words = sandbox("add", "endpoint", "--help").out.split()
    options = {word.strip("-").replace("-", "_") for word in words if word.startswith("--")}
    singular = {"methods": "method", "paths": "path", "as_": "as"}
    keys = {singular.get(name, name) for name in Endpoint.model_fields} - {"group", "github", "host"}
    assert keys - options == {"changes", "ech"}  # rare, and better thought about in the file
