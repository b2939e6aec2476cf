"""The CA of a sandbox: what in the guest, in its containers and in its builds trusts a server with a leaf of it."""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path

from own_ca import OwnCa
from tls_site import HOST
from world import World, wait_until

from engine.state.layout import Layout
from vmm.channel.client import connect

URL = f"https://{HOST}"
PYTHON = f"import urllib.request; print(urllib.request.urlopen('{URL}/hello').read().decode())"
NODE = f"fetch('{URL}/hello').then(r => r.text()).then(console.log, e => console.log(e.cause))"
APT = f"/usr/lib/apt/apt-helper download-file {URL}/hello /dev/shm/apt && cat /dev/shm/apt"
# The code of openssl also says how the server hung up. Of grep it is the verdict alone, which a build step ends by.
OPENSSL = f"echo | openssl s_client -connect {HOST}:443 -servername {HOST} -verify_return_error | grep Verification:.OK"
# Client -> what it runs, what it prints. All are of the guest's /usr, which the container of the test has, too.
CLIENTS = {
    "curl": (f"curl -sS {URL}/hello", "hello"),
    "git": (f"git ls-remote {URL}/repo.git", "refs/heads/"),
    "python": (f"python3 -c {shlex.quote(PYTHON)}", "hello"),
    "pip": (f"cd /tmp && pip download -q --no-deps --no-cache-dir -i {URL}/simple tiny && ls tiny*.whl", "tiny-1.0"),
    "npm": (f"npm view --registry {URL} tiny version", "1.0.0"),
    "node": (f"node -e {shlex.quote(NODE)}", "hello"),
    "openssl": (OPENSSL, "Verification: OK"),
}
OF_ROOT = {"apt": (APT, "hello")}

TOOLS = "FROM localhost/debian:13\nRUN apt-get update -qq && apt-get install -y -qq --no-install-recommends wget curl\n"
BUILD = f"""{TOOLS}
RUN wget -qO- {URL}/hello
RUN curl -sS {URL}/hello
RUN {APT}
RUN {OPENSSL}
RUN echo | mv /etc/ssl/certs/ca-certificates.crt /x && mv /x /etc/ssl/certs/ca-certificates.crt
USER 1000
RUN curl -sS {URL}/hello
"""
# Whether the image's layers, or what is said about them, hold anything of ours: reads `docker save`.
LOOK = """
import sys
data = sys.stdin.buffer.read()
assert len(data) > 1000000
print([mark for mark in sys.argv[1:] if mark.encode() in data])
"""
SPARED = '{"process": {"env": []}, "mounts": [], "spared": 18446744073709551615}'


def give(project: Path, name: str, certificate: str | None) -> None:
    """Tell the guest its CA, as a restore does."""

    async def call() -> None:
        async with await connect(Layout.from_environment(os.environ).instance(name).sockets.control) as client:
            await client.call("identity", 60.0, certificate=certificate)

    asyncio.run(call())


def serve(world: World, project: Path, ca: OwnCa) -> None:
    """From the next connection on the server has a leaf of this CA."""
    argv = ("exec", "-i", "--", "sh", "-c", "cat > /tmp/chain.new && mv /tmp/chain.new /tmp/chain.pem")
    world.sandbox(*argv, cwd=project, stdin=ca.issue(HOST)).ok()


def start_site(world: World, project: Path) -> None:
    world.run(project, f"echo 10.0.2.15 {HOST} | sudo tee /etc/sandbox/hosts.d/secure").ok()
    world.run(project, "sudo setsid python3 tls_site.py /tmp/chain.pem > /tmp/site.log 2>&1 < /dev/null &").ok()
    wait_until(
        lambda: world.run(project, f"curl -sSk {URL}/hello").out, lambda out: out == "hello\n", "there is no server"
    )


def assert_trusted(world: World, project: Path, before: str, clients: dict[str, tuple[str, str]]) -> None:
    """All in one command: under emulation each one costs more than most clients do."""
    scripts = [f"({script}) && echo && echo =={client} passed" for client, (script, _) in clients.items()]
    ran = world.run(project, f"{before} {shlex.quote(chr(10).join(scripts))}")
    rest = ran.out
    for client, (_, said) in clients.items():
        out, passed, rest = rest.partition(f"=={client} passed\n")
        assert passed and said in out, (before, client, ran)


def test_the_guest_and_every_container_trust_the_ca(world: World) -> None:
    site = (Path(__file__).parent / "tls_site.py").read_text()
    files = {"tls_site.py": site, "tools/Dockerfile": TOOLS, "build/Dockerfile": BUILD, "look.py": LOOK}
    project = world.project("name: trusting\nmounts: [.:/workspace]\nendpoints: [debian]\n", files)
    world.up(project)
    old, new = (OwnCa.create(world.base, f"{which} CA") for which in ("old", "new"))
    serve(world, project, old)
    start_site(world, project)
    # The control: without the certificate nobody trusts it.
    assert world.run(project, f"curl -sS {URL}/hello").code == 60
    world.run(project, "docker build -q tools").ok()

    give(project, "trusting", old.certificate)
    assert_trusted(world, project, "sh -c", CLIENTS)
    assert_trusted(world, project, "sudo sh -c", OF_ROOT | {"node": CLIENTS["node"]})
    assert_trusted(world, project, "sudo systemd-run -q --wait --pipe sh -c", {"node": CLIENTS["node"]})
    world.run(project, f"docker pull -q {HOST}/tiny && docker rmi {HOST}/tiny").ok()
    spared = f"echo {shlex.quote(SPARED)} | jq -c --arg here h --arg system '' --argjson java false -f"
    assert "18446744073709551615" in world.run(project, f"{spared} /usr/lib/sandbox/trust/trust.jq").ok().out

    start = "docker run -d --name resident -v /usr:/usr:ro localhost/debian:13 sleep 100000"
    world.run(project, start).ok()
    assert_trusted(world, project, "docker exec resident sh -c", CLIENTS | OF_ROOT)
    assert_trusted(world, project, "docker exec -u 1000 -e HOME=/tmp resident sh -c", {"python": CLIENTS["python"]})
    assert "dev" not in world.run(project, "docker diff resident").ok().out
    # Nobody can replace the store of this one, so programs without our variables read ours in its place.
    bare = "docker run --rm --read-only --cap-drop ALL -u 65534 localhost/debian:13 env -i sh -c"
    assert_trusted(world, project, bare, {"apt": OF_ROOT["apt"]})

    built = world.run(project, "docker build --progress plain -t built build", timeout_s=900).ok()
    assert built.err.count("CACHED") == 1, "the certificate changed the key of a step"
    line = old.certificate.splitlines()[1]
    looked = world.run(project, f"docker save built | python3 look.py {line} dev/sandbox").ok()
    assert looked.out == "[]\n"
    assert_trusted(world, project, "docker run --rm built sh -c", {"wget": (f"wget -qO- {URL}/hello", "hello")})

    check_renewal(world, project, old, new)


def check_renewal(world: World, project: Path, old: OwnCa, new: OwnCa) -> None:
    """Another certificate takes the place of the one before, also in a container that runs and in dockerd."""
    give(project, "trusting", new.certificate)
    assert world.run(project, f"curl -sS {URL}/hello").code == 60
    serve(world, project, new)
    assert_trusted(world, project, "sh -c", {"curl": CLIENTS["curl"]})
    assert_trusted(world, project, "docker exec resident sh -c", {"curl": CLIENTS["curl"], "node": CLIENTS["node"]})
    # dockerd has read the old one, and is not restarted under a container.
    assert "unknown authority" in world.run(project, f"docker pull {HOST}/tiny").err
    world.run(project, "docker rm -f resident").ok()
    give(project, "trusting", old.certificate)
    serve(world, project, old)
    world.run(project, f"docker pull -q {HOST}/tiny").ok()
    give(project, "trusting", None)
    assert world.run(project, f"curl -sS {URL}/hello").code == 60
    assert "sandbox" not in world.run(project, "docker run --rm localhost/debian:13 env").ok().out
