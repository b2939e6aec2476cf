"""No input crashes the loader, and a file in which the model finds nothing wrong is one that the schema accepts."""

from __future__ import annotations

import json
import string
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sandboxfile import (
    Loaded,
    SandboxfileError,
    bind_mounts,
    build_contexts,
    parse,
    published_ports,
    services_needing_mounts,
)
from sandboxfile.compose.services import env_files
from sandboxfile.pages.schema import json_schema

FILE = Path("/project/Sandboxfile.yaml")

WORDS = st.sampled_from(
    ["", "a", "db", "web", ".", "..", "/", "/w", ".:/w", "../x:/y:ro", "npm", "api.example.com", "*.a.b",
     "localhost:80", "4GiB", "80", "80:81", "127.0.0.1:80:80/udp", "5s", "always", "service:a", "service_healthy",
     "GET", "bind", "A=b", "postgres:17", "~", "\x1b", "\n", "x" * 300, "${A}", "@", "a@b", "a:b:c:d", "true", "null",
     "0", "-1", "1.5"]
)  # fmt: skip
SCALARS = st.one_of(WORDS, st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.none())
KEYS = st.sampled_from(
    ["version", "name", "agent", "machine", "packages", "setup", "mounts", "endpoints", "secrets", "services",
     "volumes", "networks", "configs", "ports", "use", "command", "args", "env", "user", "cpus", "memory", "disk",
     "run", "inputs", "source", "target", "mode", "hide", "local", "group", "host", "port", "protocol", "methods",
     "paths", "secret", "as", "deny", "file", "image", "build", "context", "dockerfile", "depends_on", "condition",
     "healthcheck", "test", "interval", "environment", "env_file", "path", "extends", "restart", "network_mode",
     "published", "host_ip", "type", "deploy", "resources", "limits", "a", "db", "web", "guest", "external",
     "driver", "ipam", "config"]
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
SERVICES = st.dictionaries(
    st.sampled_from(["a", "db", "web"]), st.dictionaries(KEYS, VALUES, max_size=5), min_size=1, max_size=3
)
SECTIONS = st.fixed_dictionaries(
    {"version": st.just("1")},
    optional={
        **{key: VALUES for key in ("name", "agent", "machine", "secrets", "volumes", "networks", "configs")},
        **{key: st.lists(VALUES, max_size=3) for key in ("packages", "setup", "mounts", "endpoints", "ports")},
        "services": SERVICES,
    },
)


def load_or_refuse(text: str | bytes) -> Loaded | None:
    """The loaded file, all questions asked, or None when it is refused with well-made messages."""
    try:
        loaded = parse(text, FILE)
    except SandboxfileError as error:
        assert all(char.isprintable() or char == "\n" for char in str(error))
        assert all(found.message for found in error.diagnostics)
        return None
    services = loaded.sandbox.services
    for question in (published_ports, bind_mounts, build_contexts, env_files):
        question(services)
    services_needing_mounts(services, loaded.sandbox.mounts)
    return loaded


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(json_schema())


@given(st.text())
def test_any_text(text: str) -> None:
    load_or_refuse(text)


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    load_or_refuse(data)


@given(st.text(alphabet=" \n\t:-?[]{},&*!|>'\"%@`#<ab1.0~\\xu", max_size=60))
@example("%YAML 1.99999999999999999999\n---\n")
@example("%YAML a\n---\n")
@example("%TAG ! x\n---\n!a b")
@example('"\\')
@example("a: |99999\n b")
@example("? a\n? b\n: c")
@example("- &a\n- *a")
@example("{[a]: b}")
@example("<<: *a")
@example("<<: {a: &b 1, <<: {c: *b}}")
def test_text_full_of_yaml(text: str) -> None:
    load_or_refuse(text)


@given(SECTIONS)
def test_any_file_of_roughly_the_right_shape(data: dict[str, Any]) -> None:
    text = json.dumps(data)
    if load_or_refuse(text) is not None:
        assert validator().is_valid(data), "the schema refuses what the model accepts"


@given(SERVICES)
def test_any_services(services: dict[str, Any]) -> None:
    for service in services.values():
        service.setdefault("image", "a")
    load_or_refuse(json.dumps({"version": "1", "services": services}))


@given(st.text(alphabet=string.ascii_letters + string.digits + ".-_:*/@[]%é ", max_size=30))
def test_any_endpoint(text: str) -> None:
    loaded = load_or_refuse(json.dumps({"version": "1", "endpoints": [text]}))
    if loaded is not None:
        (endpoint,) = loaded.sandbox.endpoints
        assert validator().is_valid({"version": "1", "endpoints": [text]})
        if endpoint.host is not None:
            assert endpoint.host.isascii()
            assert endpoint.host == endpoint.host.lower()
            assert not set(endpoint.host[2:]) & set("*/:@[] %")
