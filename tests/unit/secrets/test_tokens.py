"""A credential in the path of a registry's URL: found by its looks, asked about, and never in the image."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.build.image import recipe
from engine.build.image.recipe import SCRIPTS, write_inputs
from engine.resolve import clients as host_clients
from engine.resolve import registries
from engine.resolve.capacity import Capacity
from engine.resolve.debian import MIRROR_VARIABLE
from engine.resolve.registries import UrlCredential, credentials_of
from engine.secrets.tokens import tokens_in, without_tokens
from engine.trust.asks import Ask, Surroundings, asks_of, groups_of, widened
from engine.trust.places import Places
from sandboxfile import load

TOKEN = "aBcDeFgH12345678"
PIP = '["https://index.example/simple", "index.example", "files.example"]'


@pytest.mark.parametrize(
    "segment",
    [
        TOKEN,
        "xKz81mQ0p2LsV7nR",
        "glpat-abcdefghij0123456789",
        "npm_aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "d41d8cd98f00b204e9800998ecf8427e",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0",
        ";_authToken=abc",
        "npm:_password=x",
    ],
)
def test_what_looks_like_one(segment: str) -> None:
    url = f"https://dl.example:8443/{segment}/simple"
    assert tokens_in(url) == (segment,)
    assert without_tokens(url) == "https://dl.example:8443/.../simple"


@pytest.mark.parametrize(
    "url",
    [
        "http://mirror.example/debian",
        "https://registry.example",
        "https://index.example/simple",
        "https://snapshot.example/archive/debian/20240701T000000Z",
        "https://a.example/artifactory/api/pypi/pypi-remote-virtual-2024/simple",
        "https://a.example/repository/internationalization-department/simple",
        "https://a.example/api/v4/projects/12345678/packages/pypi/simple",
        "https://a.example/repository/python3packages2024/simple",
        "https://a.example/npm-virtual-releases-and-snapshots",
        "https://a.example/11111111111111111111111111111111/x",
    ],
)
def test_what_does_not(url: str) -> None:
    assert tokens_in(url) == () and without_tokens(url) == url


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of a host whose clients have a token each; apt's is said by the variable."""
    said = {
        "npm": f"https://npm.example/{TOKEN}/npm/\n",
        "-c": PIP,
        "-m": f"global.index-url='https://dl.example/{TOKEN}/simple'\nglobal.extra-index-url='https://x.example/y'\n",
    }
    monkeypatch.setattr(host_clients, "ask_client", lambda argv: said.get(argv[0], said.get(argv[1])))
    monkeypatch.setenv(MIRROR_VARIABLE, f"https://apt.example/{TOKEN}/debian")
    registries.forget()
    yield
    registries.forget()


@pytest.mark.usefixtures("clients")
def test_every_group() -> None:
    assert credentials_of(["npm", "pypi", "debian"]) == (
        UrlCredential("debian", "https://apt.example/.../debian", MIRROR_VARIABLE),
        UrlCredential("npm", "https://npm.example/.../npm", "host's npm configuration"),
        UrlCredential("pypi", "https://dl.example/.../simple", "host's pip configuration"),
    )
    assert credentials_of([]) == ()


@pytest.mark.usefixtures("clients")
@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("endpoints: [npm, a.example.com]\n", {"npm"}),
        ("packages: [jq]\n", {"debian"}),
        (
            "agents: {a: {command: [run], endpoints: [pypi]}, b: {command: [run], endpoints: [debian]}}\n",
            {"debian", "pypi"},
        ),
        ("endpoints: [a.example.com]\n", set()),
    ],
)
def test_it_is_asked_about(text: str, groups: set[str], tmp_path: Path) -> None:
    (tmp_path / "Sandboxfile.yaml").write_text(f'version: "1"\n{text}')
    loaded = load(tmp_path / "Sandboxfile.yaml")
    assert groups_of(loaded) == groups
    around = Surroundings(Places((), {}), Capacity(1 << 50, 99, 1 << 60), credentials=credentials_of(groups))
    asks = [ask for ask in asks_of(loaded, around) if ask.kind == "registry credential"]
    assert len(asks) == len(groups)
    assert not any(TOKEN in repr(ask) for ask in asks)
    assert widened(asks, ()) == tuple(asks) and widened(asks, [Ask(a.kind, a.subject) for a in asks]) == ()


COMMANDS = ("set", "root=$1", "mv", "cp", "sed", "rm")
LINES = [
    f"deb https://apt.example/{TOKEN}/debian trixie main",
    f"deb https://apt.example/{TOKEN}/debian trixie-updates main",
]


def test_the_image_is_built_with_it_and_does_not_have_it(tmp_path: Path) -> None:
    """What the hooks do to the root, without Debian: the base container, then the packages, then what is left."""
    build, root, scratch = tmp_path / "build", tmp_path / "root", tmp_path / "scratch"
    scratch.mkdir()
    write_inputs(build, LINES, {})
    lists = root / "etc/apt/sources.list.d"
    (root / "usr/share/sandbox").mkdir(parents=True)
    lists.mkdir(parents=True)
    (lists / "0000sources.list").write_text((build / "sources.list").read_text())
    clients = root / "usr/share/sandbox/clients.json"
    for hook in ("hook-base.sh", "hook-packages.sh"):
        kept = []
        for line in (build / hook).read_text().replace("/scratch/", f"{scratch}/").splitlines():
            words = line.split()
            if not words or (words[0] in COMMANDS and "/build/" not in line):
                kept.append(line)
            elif line.startswith("pack --create"):
                kept.append(f'cp "$root/etc/apt/sources.list" {scratch}/packed')
            elif "apt-get --yes" in line:
                kept.append(f'cp "$root/etc/apt/sources.list" {scratch}/used; echo {LINES[0]!r} > {clients}')
        kept = [line for line in kept if "debian-13.tar" not in line and "clients.py" not in line]
        subprocess.run(["sh", "-c", "\n".join(kept), hook, str(root)], check=True)
    assert (scratch / "used").read_text().splitlines() == LINES
    for left in (scratch / "packed", root / "etc/apt/sources.list", clients):
        assert TOKEN not in left.read_text() and "https://apt.example/.../debian" in left.read_text()
    assert not (scratch / "sources.list").exists()


def test_without_one_the_scripts_are_as_they_are(tmp_path: Path) -> None:
    write_inputs(tmp_path / "build", ["deb http://mirror.example/debian trixie main"], {})
    source = Path(recipe.__file__).parent
    for name in SCRIPTS:
        assert (tmp_path / "build" / name).read_bytes() == (source / name).read_bytes()
