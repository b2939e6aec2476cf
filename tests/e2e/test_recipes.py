"""Recipes of docs/network.md, as they are in the page, with real clients against the vendors of vendors.py."""

from __future__ import annotations

import base64
import io
import json
import re

from network_page import recipes
from package_site import make_package_site
from ruamel.yaml import YAML
from vendors import KEY, MUST_BE_ROOT, build, start_vendors, values
from world import World

pytestmark = MUST_BE_ROOT

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


def test_the_recipes_run(world: World) -> None:
    pages = [dict(YAML(typ="safe").load(io.StringIO(recipes()[heading]))) for heading in RUN]
    endpoints = [endpoint for page in pages for endpoint in page["endpoints"]]
    secrets = {name: place for page in pages for name, place in page["secrets"].items()}
    project = world.project(
        f"name: recipes\nmounts: [.:/workspace]\nendpoints: {json.dumps(endpoints)}\nsecrets: {json.dumps(secrets)}\n"
    )
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
