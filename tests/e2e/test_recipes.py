"""Recipes of docs/network.md, as they are in the page, with real clients against the vendors of vendors.py."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

from network_page import recipes
from package_site import make_package_site
from ruamel.yaml import YAML
from vendor_network import THEIRS
from vendors import KEY, MUST_BE_ROOT, build, start_host_service, start_proxy, start_vendors, values
from world import UP_S, World

pytestmark = MUST_BE_ROOT

BY_PRESET = "GitHub, by repository and operation"
RUN = ("GitHub, read-only", "A private registry of packages", "A private registry of images")
NAMES = ("github.com", "packages.example.com", "registry.example.com")
BASIC = f"Basic {base64.b64encode(f'x-access-token:{KEY}'.encode()).decode()}"
PACKAGES = "https://packages.example.com"
NPM = f"npm_config_registry={PACKAGES}/npm/ npm"
# What a client does, and the request (method, host and path) that shows it.
ALLOWED = {
    "git clone -q https://github.com/acme/shop.git ~/shop": "POST github.com/acme/shop.git/git-upload-pack",
    f"cd ~ && {NPM} install --silent tiny && node -p 'require(\"tiny\")'": "GET packages.example.com/npm/tiny",
    f"cd ~ && pip download -q --no-deps -i {PACKAGES}/simple tiny": "GET packages.example.com/simple/tiny/",
    "docker pull -q registry.example.com/tiny": "HEAD registry.example.com/v2/tiny/manifests/latest",
}
COMMIT = "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x"
TOKEN = 'npm config set "//packages.example.com/npm/:_authToken" "$PACKAGES_TOKEN"'
# All of these are told 403, and docker shows what came with it.
REFUSED = (
    f"cd ~/shop && {COMMIT} && git push -q origin HEAD:x",
    "git clone -q https://github.com/acme/other.git",
    f"mkdir ~/mine && cd ~/mine && npm init -y > /dev/null && {TOKEN} && {NPM} publish",
    "docker tag registry.example.com/tiny registry.example.com/mine && docker push registry.example.com/mine",
)


def project_of(world: World, name: str, headings: tuple[str, ...]) -> Path:
    pages = [dict(YAML(typ="safe").load(io.StringIO(recipes()[heading]))) for heading in headings]
    endpoints = [endpoint for page in pages for endpoint in page["endpoints"]]
    secrets = {name: place for page in pages for name, place in page.get("secrets", {}).items()}
    text = f"name: {name}\nmounts: [.:/workspace]\nendpoints: {json.dumps(endpoints)}\nsecrets: {json.dumps(secrets)}\n"
    return world.project(text, directory=name)


def test_the_recipes_run(world: World) -> None:
    project = project_of(world, "recipes", RUN)
    make_package_site(world.base / "vendors/site")
    build(world, project)
    with start_vendors(world, NAMES) as vendors:
        world.up(project)
        got = []
        for script, request in ALLOWED.items():
            world.run(project, script).ok()
            new = vendors.got()
            assert request in {f"{one['method']} {one['host']}{one['path']}" for one in new}, (script, new)
            got += new
        for script in REFUSED:
            ran = world.run(project, script)
            assert ran.code != 0 and re.search("403|sandbox: refused", ran.out + ran.err), ran
        got += vendors.got()
        for one in got:
            assert values(one, "authorization") == [BASIC if one["host"] == "github.com" else f"Bearer {KEY}"], one
        assert {one["method"] for one in got if one["host"] != "github.com"} <= {"GET", "HEAD"}
        assert not [one for one in got if "receive-pack" in one["path"] or "/acme/other" in one["path"]]


KNOCK = """
import socket
with socket.create_connection(("db.example.com", 5432), 60) as client:
    file = client.makefile("rwb")
    print(file.readline())
    file.write(b"me\\n")
    file.flush()
    print(file.read())
"""


def test_services_of_the_host_and_other_protocols(world: World) -> None:
    project = project_of(world, "others", ("Ollama on this host", "A database", BY_PRESET))
    (project / "knock.py").write_text(KNOCK)
    build(world, project)
    with start_vendors(world, (*NAMES, "db.example.com")) as vendors, start_host_service(world, 11434, "a model"):
        world.up(project)
        assert world.run(project, "curl -sS http://ollama:11434/said").ok().out == "a model"
        inside = "docker run --rm -v /usr:/usr:ro localhost/debian:13 curl -sS http://ollama:11434/said"
        assert world.run(project, inside).ok().out == "a model"
        assert world.run(project, "python3 knock.py").ok().out == "b'who is there?\\n'\nb'hello me\\n'\n"
        world.run(project, "git clone -q https://github.com/acme/shop.git ~/shop").ok()
        pushed = world.run(project, f"cd ~/shop && {COMMIT} && git push -q origin HEAD:x")
        assert pushed.code != 0 and "403" in pushed.err, pushed
        assert not [one for one in vendors.got() if one["path"].endswith("git-receive-pack")]


def test_a_corporate_proxy_is_the_only_way_out(world: World) -> None:
    """Only the proxy knows where the name leads; the guest is told nothing of it, and does nothing about it."""
    project = project_of(world, "office", ("A corporate proxy",))
    build(world, project)
    log, call = world.base / "asked", "curl -sS --cacert vendors.crt https://api.example.com/x"
    with start_vendors(world, ("elsewhere.example.com", "api.example.com")) as vendors:
        (project / "vendors.crt").write_text(vendors.certificate)
        (vendors.directory / "hosts").write_text("127.0.0.1 localhost\n")
        with start_proxy(world, THEIRS, log) as port:
            way = f"http://me:{KEY}@127.0.0.1:{port}"
            world.sandbox("up", "-d", "--yes", cwd=project, timeout_s=UP_S, HTTPS_PROXY=way).ok()
            said = world.run(project, f"{call}; env").ok().out
            assert said.startswith("who are you?\n") and KEY not in said and "PROXY" not in said.upper(), said
            assert world.run(project, "curl -sS https://elsewhere.example.com/x").code != 0  # which no endpoint names
        asked = [json.loads(line) for line in log.read_text().splitlines()]
        assert asked == [{"method": "CONNECT", "name": "api.example.com:443", "user": f"me:{KEY}"}]
        assert [(one["host"], one["path"]) for one in vendors.got()] == [("api.example.com", "/x")]
        assert world.run(project, call).code != 0  # the proxy has gone
