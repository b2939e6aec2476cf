"""The Compose sections: what is refused, and the questions that the engine asks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandboxfile import (
    Mount,
    SandboxfileError,
    bind_mounts,
    build_contexts,
    parse,
    published_ports,
    services_needing_mounts,
)
from sandboxfile.compose.images import check_image
from sandboxfile.compose.judge import check_compose
from sandboxfile.compose.published import parse_ports
from sandboxfile.compose.services import additional_contexts, env_files


@pytest.mark.parametrize(
    "image",
    ["postgres", "postgres:17", "localhost/debian:13", "localhost:5000/a/b:c", "registry.example:5000/a", "a/b/c/d",
     "a__b/c.d/e---f", "A.example/b", "db@sha256:" + "a" * 64, "db:1@sha256:" + "0" * 64, "[2001:db8::1]:5000/a",
     "a:" + "t" * 128],
)  # fmt: skip
def test_images(image: str) -> None:
    assert check_image(image) is None
    assert check_compose({"services": {"s": {"image": image}}}) == []


@pytest.mark.parametrize(
    "image",
    ["", " ", "Postgres", "a b", "a:", ":a", "a:b:c", "a/", "/a", "a//b", "a..b", "-a", "a_", "a:-x", "a@", "a@b",
     "a@sha256:" + "a" * 63, "a@sha256:" + "g" * 64, "https://a/b", "a:" + "t" * 129, "a" * 256, "${IMAGE}", "a\n",
     "ä"],
)  # fmt: skip
def test_no_images(image: str) -> None:
    assert check_image(image) is not None
    assert [problem.path for problem in check_compose({"services": {"s": {"image": image}}})] == [
        ("services", "s", "image")
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (80, [("", None, 80, "tcp")]),
        ("80", [("", None, 80, "tcp")]),
        ("8080:80", [("", 8080, 80, "tcp")]),
        ("127.0.0.1:8080:80", [("127.0.0.1", 8080, 80, "tcp")]),
        ("127.0.0.1::80", [("127.0.0.1", None, 80, "tcp")]),
        ("[::1]:8080:80/udp", [("::1", 8080, 80, "udp")]),
        ("3000-3001:4000-4001", [("", 3000, 4000, "tcp"), ("", 3001, 4001, "tcp")]),
        ("3000-3001", [("", None, 3000, "tcp"), ("", None, 3001, "tcp")]),
        ({"target": 80, "published": "8080", "host_ip": "127.0.0.1"}, [("127.0.0.1", 8080, 80, "tcp")]),
        ({"target": 53, "published": 53, "protocol": "udp"}, [("", 53, 53, "udp")]),
        ({"target": 80}, [("", None, 80, "tcp")]),
    ],
)
def test_published_port_forms(entry: Any, expected: list[Any]) -> None:
    assert parse_ports(entry) == expected


@pytest.mark.parametrize(
    "entry",
    ["", "a", "80:a", "0", "65536", "90-80", "1-60000", "80/icmp", "80/", "a:80:80", "1:2:3:4", "80-81:80", "80:80-81",
     "-80", "80-", True, None, 1.5, [], {}, {"target": "x"}, {"target": 80, "publish": 1}, "${PORT}:80", "٨٠"],
)  # fmt: skip
def test_no_published_ports(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        parse_ports(entry)
    problems = check_compose({"services": {"s": {"image": "a", "ports": [entry]}}})
    assert [problem.path for problem in problems] == [("services", "s", "ports", 0)]


def test_all_published_ports_together_have_a_limit() -> None:
    ports = ["1000-1999:1000-1999"] * 9000
    (problem,) = check_compose({"services": {"a": {"image": "x", "ports": ports}}})
    assert problem.path == ("services", "a", "ports", 1)
    assert "more than 1000 ports" in problem.message


SERVICES: dict[str, dict[str, Any]] = {
    "db": {"image": "postgres", "ports": ["5432"], "volumes": ["data:/var/lib/postgresql", "/scratch"]},
    "web": {
        "build": "./web/",
        "ports": ["8080:80", {"target": 443, "published": "8443"}],
        "depends_on": {"api": {"condition": "service_healthy"}},
        "env_file": ".env",
    },
    "api": {
        "build": {"context": "services/../api", "target": "dev"},
        "volumes": [".:/app:ro", {"type": "bind", "source": "/workspace/data", "target": "/data"}],
        "env_file": ["a.env", {"path": "b.env", "required": False}],
    },
    "remote": {"build": "https://git.example/x.git"},
    "inline": {"build": {"dockerfile_inline": "FROM scratch"}, "volumes": ["/var/run/docker.sock:/d.sock"]},
    "lives-in-api": {"image": "a", "network_mode": "service:api"},
}


def test_questions() -> None:
    assert published_ports(SERVICES) == (
        ("db", None, 5432, "tcp"),
        ("web", 8080, 80, "tcp"),
        ("web", 8443, 443, "tcp"),
    )
    assert build_contexts(SERVICES) == {"web": "web", "api": "api", "inline": "."}
    assert bind_mounts(SERVICES) == [
        ("api", ".", "/app"),
        ("api", "/workspace/data", "/data"),
        ("inline", "/var/run/docker.sock", "/d.sock"),
    ]
    assert env_files(SERVICES) == {"web": (".env",), "api": ("a.env", "b.env")}


def test_additional_contexts_of_the_project() -> None:
    named = {
        "a": "./x/..",
        "b": "docker-image://a",
        "c": "/guest",
        "d": "https://h/x",
        "e": "service:web",
        "f": "../out",
    }
    listed = ["a=x", "b=target:stage", "c"]
    services = {
        "m": {"build": {"additional_contexts": named}},
        "l": {"build": {"additional_contexts": listed}},
        "n": {},
    }
    assert additional_contexts(services) == [("m", "a", "a", "."), ("m", "f", "f", "../out"), ("l", 0, "a", "x")]


def test_services_that_need_mounts_and_those_that_need_them() -> None:
    assert services_needing_mounts(SERVICES) == ("web", "api", "lives-in-api")
    services = {"a": {"image": "x", "volumes": ["/workspace/data:/data"]}, "b": {"image": "x", "depends_on": ["a"]}}
    assert services_needing_mounts(services) == ()
    assert services_needing_mounts(services, [Mount(source=".", target="/workspace")]) == ("a", "b")
    assert services_needing_mounts(services, [Mount(source=".", target="/workspace2")]) == ()
    assert services_needing_mounts(services, [Mount(source=".", target="/workspace/data/deep")]) == ("a", "b")


def test_whoever_shares_something_with_a_late_service_is_late_itself() -> None:
    services = {
        "a": {"volumes": ["./x:/x"]},
        "linked": {"links": ["a:alias"]},
        "sharing": {"volumes_from": ["linked:ro"]},
        "watching": {"pid": "service:sharing"},
        "talking": {"ipc": "service:watching"},
        "extending": {"extends": {"service": "a"}},
        "free": {"volumes_from": ["container:a"]},
    }
    assert services_needing_mounts(services) == ("a", "linked", "sharing", "watching", "talking", "extending")


SERVICE_KEYS = {
    "annotations": ["a=b"], "attach": True, "blkio_config": {"weight": 300}, "cap_add": ["ALL"], "cgroup": "host",
    "command": ["a"], "container_name": "abc", "cpus": 0.5, "deploy": {"replicas": 1}, "devices": ["/dev/a:/dev/b"],
    "develop": {"watch": [{"path": ".", "action": "rebuild"}]}, "dns": ["192.0.2.1"], "entrypoint": "a b",
    "env_file": [".env"], "environment": ["A=1", "B"], "expose": [3000], "extra_hosts": ["a=192.0.2.1", "b:192.0.2.1"],
    "group_add": ["docker", 1], "healthcheck": {"test": ["CMD-SHELL", "x"]}, "hostname": "my_host", "init": True,
    "ipc": "host", "labels": {"a": "b"}, "logging": {"driver": "none"}, "mem_limit": "512M", "network_mode": "none",
    "pid": "host", "platform": "linux/amd64", "privileged": True, "profiles": ["a"], "pull_policy": "always",
    "read_only": True, "restart": "on-failure:3", "security_opt": ["no-new-privileges"], "shm_size": "64m",
    "stdin_open": True, "stop_grace_period": "1m30s", "sysctls": {"net.core.somaxconn": 1024}, "tmpfs": "/run",
    "tty": True, "ulimits": {"nofile": {"soft": 1, "hard": 2}}, "user": "1000:1000", "volumes": ["./a:/b:ro,delegated"],
    "working_dir": "/app", "x-anything": {"a": [1]},
}  # fmt: skip


@pytest.mark.parametrize("key", SERVICE_KEYS)
def test_keys_of_the_compose_specification(key: str) -> None:
    assert check_compose({"services": {"s": {"image": "a", key: SERVICE_KEYS[key]}}}) == []


def test_all_problems_of_all_services_have_their_places() -> None:
    data = {
        "services": {
            "a": {"image": "A", "restart": "never", "healthcheck": {"test": "x", "interval": "5x", "retrys": 1}},
            "b": {"build": ".", "volumes": ["x:y", "./ok:/ok", "./x:z"], "prots": []},
        },
        "volumes": {"v": {"drivr": "x"}},
        "networks": {"n": {"ipam": {"config": [{"subnet": "not-a-net"}]}}},
    }
    assert {problem.path for problem in check_compose(data)} == {
        ("services", "a", "image"),
        ("services", "a", "restart"),
        ("services", "a", "healthcheck", "interval"),
        ("services", "a", "healthcheck", "retrys"),
        ("services", "b", "volumes", 0),
        ("services", "b", "volumes", 2),
        ("services", "b", "prots"),
        ("volumes", "v", "drivr"),
        ("networks", "n", "ipam", "config", 0, "subnet"),
    }


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ({"depends_on": {"ok": {"condition": "service_started"}, "db": {"restart": True}}}, ("depends_on", "db")),
        ({"configs": [{"source": "a"}, {"target": "/x"}]}, ("configs", 1)),
        ({"build": {"dockerfile": "a", "dockerfile_inline": "b"}}, ("build",)),
        ({"network_mode": "host", "networks": ["n"]}, ()),
        ({"volumes": [{"type": "bind", "target": "/x", "bind": {"create_host_path": True}}]}, ("volumes", 0)),
    ],
)
def test_what_is_wrong_with_the_whole_is_not_blamed_on_a_part(service: dict[str, Any], path: tuple[Any, ...]) -> None:
    problems = check_compose({"services": {"s": {"image": "a", **service}}})
    assert [problem.path for problem in problems] == [("services", "s", *path)]


@pytest.mark.parametrize(
    ("services", "cycle"),
    [
        ("{a: {image: x, depends_on: [a]}}", "a -> a"),
        ("{a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}", "a -> b -> a"),
        ("{a: {image: x}, b: {image: x, depends_on: [c, a]}, c: {image: x, network_mode: 'service:b'}}", "b -> c -> b"),
    ],
)
def test_cycles_are_named(services: str, cycle: str) -> None:
    with pytest.raises(SandboxfileError) as caught:
        parse(f'version: "1"\nservices: {services}', Path("/x/Sandboxfile.yaml"))
    (found,) = caught.value.diagnostics
    assert cycle in found.message
    assert found.path[0] == "services"


def test_options_that_compose_ignores_are_warned_of() -> None:
    text = 'version: "1"\nservices: {a: {image: localhost/x, volumes: ["./a:/a:roz", "./b:/b:ro,z,nocopy,rslave"]}}'
    (warning,) = parse(text, Path("/x/Sandboxfile.yaml")).warnings
    assert warning.path == ("services", "a", "volumes", 0)
    assert warning.message == "has the unknown option 'roz', which Compose ignores"


def test_a_warning_does_not_end_the_checks() -> None:
    with pytest.raises(SandboxfileError) as caught:
        parse(
            'version: "1"\nservices: {a: {image: x, volumes: ["./a:/a:roz"], depends_on: [b]}}',
            Path("/x/Sandboxfile.yaml"),
        )
    assert "there is no service 'b'" in str(caught.value)


@pytest.mark.parametrize(
    ("services", "endpoints", "hint"),
    [
        ("{a: {image: 'postgres:17'}}", "[]", "sandbox add endpoint docker-hub"),
        ("{a: {image: postgres}}", "[auth.docker.io, '*.docker.com']", "sandbox add endpoint docker-hub"),
        ("{a: {image: ghcr.io/x/y}}", "[npm]", "sandbox add endpoint ghcr"),
        ("{a: {image: eu.gcr.io/x/y}}", "[npm]", "sandbox add endpoint gcr"),
        ("{a: {image: ghcr.io/x/y}}", "[ghcr]", None),
        ("{a: {image: 'x.example:5000/y'}}", "[x.example]", "sandbox add endpoint x.example:5000"),
        (
            "{a: {image: ghcr.io/x/y}}",
            "[ghcr.io, {host: ghcr.io, port: 443, deny: true}]",
            "sandbox add endpoint ghcr",
        ),
        ("{a: {image: ghcr.io/x/y}}", "[{host: ghcr.io, methods: [GET]}]", None),
        ("{a: {image: 'x.example:5000/y'}}", "['x.example:5000']", None),
        ("{a: {image: postgres}}", "['*.docker.io', '*.docker.com', '*.cloudflare.docker.com']", None),
        ("{a: {image: mine, build: .}, b: {image: 'mine:latest'}}", "[]", None),
        ("{a: {image: mine, pull_policy: never}}", "[]", None),
        ("{a: {image: 'localhost/debian:13'}}", "[]", None),
        ("{a: {build: .}, b: {extends: a}}", "[]", None),
    ],
)
def test_images_that_no_endpoint_lets_through_are_warned_of(services: str, endpoints: str, hint: str | None) -> None:
    loaded = parse(f'version: "1"\nservices: {services}\nendpoints: {endpoints}\n', Path("/x/Sandboxfile.yaml"))
    assert [found.hint for found in loaded.warnings] == ([] if hint is None else [hint])
