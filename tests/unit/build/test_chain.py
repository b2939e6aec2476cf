"""The chain of a file, compared as text: which nodes, what each is made of, what it does and what it may reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.build.accelerator import Verdict
from engine.build.chain import Chain, make_chain
from engine.build.step import InGuest
from engine.state.keys import KEY_LENGTH
from sandboxfile import load

FILES = {"src/a": "a", "web/Dockerfile": "FROM scratch\n", "db.env": "X=1\n", "site.conf": "x"}
WHOLE = """
version: "1"
name: shop
mounts: [.:/workspace]
endpoints: [api.example.com]
packages: [ripgrep, jq]
setup:
  - npm ci
  - {run: make, user: root, inputs: [src], env: {TOKEN: abc}}
services:
  web: {build: ./web, depends_on: [db]}
  db: {image: "db:1", env_file: [db.env], configs: [site]}
  seen: {image: "seen:1", volumes: [".:/code"]}
configs: {site: {file: site.conf}}
"""
TEXT = """\
toolchain <- nothing: Toolchain
accelerator <- toolchain: Probe
image <- toolchain accelerator: GuestImage
initramfs <- toolchain: Initramfs
disk <- toolchain: Disk
booted <- base: Boot, may reach nothing
packages <- base booted: Packages, may reach group debian
  packages = jq ripgrep
setup[0] <- base packages: Setup, may reach api.example.com
  directory = /workspace
  run = npm ci
  user = agent
setup[1] <- base setup[0]: Setup, may reach api.example.com
  directory = /workspace
  env TOKEN = a digest
  inputs src = a digest
  run = make
  user = root
images <- base setup[1]: Images, may reach api.example.com
  context web = a digest
  images = a digest
  project name = shop
services <- base images: Services, may reach api.example.com
  file /var/lib/sandbox/files/db.0.env = a digest
  file /var/lib/sandbox/files/site.config = a digest
  services = a digest
"""


def text(chain: Chain) -> str:
    return "".join(f"{line}\n" for line in _lines(chain))


def _lines(chain: Chain) -> Iterator[str]:
    keys = {node.key for node in chain.graph.order()}
    base = ("toolchain", "accelerator", "image", "initramfs", "disk")
    for node in chain.graph.order():
        needs = " ".join(node.needs) or "nothing"
        work = node.work
        if isinstance(work, InGuest):
            needs = needs.replace(" ".join(base), "base")
            reach = ", ".join(f"group {one.group}" if one.group else str(one.host) for one in work.endpoints)
            said = f"{type(work.step).__name__}, may reach {reach or 'nothing'}"
            assert (
                work.name == "shop"
                and work.shape == chain.shape
                and work.parent == (None if node.id == "booted" else node.needs[-1])
            )
        else:
            said = type(work).__name__
        yield f"{node.id} <- {needs}: {said}"
        if isinstance(work, InGuest) and node.id != "booted":
            shown = {name: value for name, value in node.inputs.items() if value not in keys}
            yield from (f"  {name} = {_shown(value)}" for name, value in sorted(shown.items()))


def _shown(value: str) -> str:
    hidden = len(value) >= KEY_LENGTH and all(character in "0123456789abcdef" for character in value)
    return "a digest" if hidden else value


def make(directory: Path, text: str, verdict: Verdict | None = None) -> Chain:
    for name, content in FILES.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(content)
    (directory / "Sandboxfile.yaml").write_text(text)
    return make_chain(load(directory / "Sandboxfile.yaml"), verdict)


def test_a_whole_file(tmp_path: Path) -> None:
    chain = make(tmp_path, WHOLE)
    assert text(chain) == TEXT
    assert chain.ready == "services" and chain.compose is not None
    assert chain.compose.early == ("web", "db") and chain.compose.late == ("seen",)
    assert sorted(chain.contents) == ["configs.site.file", "services.db.env_file[0]", "services.web.build"]


def test_a_file_of_nothing(tmp_path: Path) -> None:
    chain = make(tmp_path, 'version: "1"\nname: shop\n')
    assert text(chain) == "".join(TEXT.splitlines(keepends=True)[:6])
    assert (chain.ready, chain.compose, dict(chain.contents)) == ("booted", None, {})


def test_nodes_are_values(tmp_path: Path) -> None:
    """Made twice of the same, they are equal: nothing of a run hangs on them."""
    verdict = Verdict("tcg", ())
    first, second = make(tmp_path, WHOLE, verdict), make(tmp_path, WHOLE, verdict)
    for one, other in zip(first.graph.order(), second.graph.order(), strict=True):
        assert one == other


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [
        ("npm ci", "npm install", "setup[0]"),
        ("jq]", "jq, git]", "packages"),
        ("run: make,", "run: make all,", "setup[1]"),
        ('"db:1"', '"db:2"', "images"),
        ("depends_on: [db]", "depends_on: [db], command: x", "services"),
        ("name: shop", "name: shop2", "images"),
    ],
)
def test_a_change_begins_where_it_counts(tmp_path: Path, before: str, after: str, first: str) -> None:
    old = make(tmp_path, WHOLE).graph.order()
    new = make(tmp_path, WHOLE.replace(before, after)).graph.order()
    assert next(one.id for one, other in zip(old, new, strict=True) if one.key != other.key) == first


@pytest.mark.parametrize("rule", ["methods: [GET]", "paths: [/a/**]", "secret: key"])
def test_services_are_started_with_the_certificate_that_they_will_need(tmp_path: Path, rule: str) -> None:
    """What a container trusts is decided when it starts, and the services of a snapshot have started."""
    whole = f"{WHOLE}secrets: {{key: {{env: KEY}}}}\n"
    plain = make(tmp_path, whole)
    inside = make(tmp_path, whole.replace("[api.example.com]", f"[{{host: api.example.com, {rule}}}]"))
    changed = [
        one.id for one, other in zip(plain.graph.order(), inside.graph.order(), strict=True) if one.key != other.key
    ]
    assert changed == ["services"], "nothing else is built anew for it"
    for chain, certified in ((plain, False), (inside, True)):
        work = [node.work for node in chain.graph.order() if isinstance(node.work, InGuest)]
        assert [one.certified for one in work] == [False, *[certified] * (len(work) - 1)]


def test_every_node_of_the_guest_stands_on_its_parents_very_entry(tmp_path: Path) -> None:
    for node in make(tmp_path, WHOLE).graph.order():
        assert node.requires_entries or not isinstance(node.work, InGuest)
        assert dataclasses.is_dataclass(node.work)
