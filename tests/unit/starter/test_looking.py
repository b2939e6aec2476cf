"""What projects show, for a table of them: the proposals, and a file that loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starter_world import Found, look, starter

from engine.starter.python import LISTED
from engine.starter.registries import REGISTRIES

PIP = "pip install --user --break-system-packages"


BERRY = (
    'sudo npm install -g @yarnpkg/cli-dist{} && yarn config set --home npmRegistryServer "$(npm config get registry)"'
)
MOVED = " && mkdir -p node_modules && sudo mv node_modules /"
PYTHONS = ("releases.astral.sh", "astral-sh/python-build-standalone")
CRATES = ["crates"]


def lock(name: str, run: str, **package: Any) -> Found:
    return Found(
        {"package.json": package, name: ""}, setup=[{"run": run, "inputs": ["package.json", name]}], endpoints=["npm"]
    )


PROJECTS = {
    "empty": Found({}),
    "npm": lock("package-lock.json", "npm ci" + MOVED),
    "npm, with scripts of its own": lock(
        "package-lock.json", "npm ci --ignore-scripts" + MOVED, scripts={"prepare": "husky"}
    ),
    "npm, without a lock": Found(
        {"package.json": {"devDependencies": {"a": "1"}}},
        setup=[{"run": "npm install" + MOVED, "inputs": ["package.json"]}],
        endpoints=["npm"],
    ),
    "nothing to install": Found({"package.json": {"name": "x"}}, endpoints=["npm"]),
    "pnpm": Found(
        {"package.json": {"packageManager": "pnpm@9.1.0+sha256.abc"}, "pnpm-lock.yaml": ""},
        setup=[
            "sudo npm install -g pnpm@9.1.0 && pnpm config set store-dir /home/agent/.pnpm-store",
            {"run": "pnpm fetch", "inputs": ["package.json", "pnpm-lock.yaml"]},
        ],
        endpoints=["npm"],
    ),
    "yarn": Found(
        {"package.json": {}, "yarn.lock": ""},
        setup=[
            "sudo npm install -g yarn",
            {
                "run": f"yarn install --frozen-lockfile{MOVED}"
                " && sudo ln -s /node_modules/.bin/* /usr/local/bin/ || test -d /node_modules",
                "inputs": ["package.json", "yarn.lock"],
            },
        ],
        endpoints=["npm"],
    ),
    "bun": Found(
        {"package.json": {}, "bun.lock": ""},
        setup=[
            "sudo npm install -g bun",
            {"run": "bun install --frozen-lockfile" + MOVED, "inputs": ["package.json", "bun.lock"]},
        ],
        endpoints=["npm"],
    ),
    "a workspace": Found(
        {"package.json": {"workspaces": ["a"]}, "package-lock.json": ""},
        left_out=[{"run": "npm ci --ignore-scripts", "inputs": ["package.json", "package-lock.json"]}],
        endpoints=["npm"],
    ),
    "a workspace whose members are there": Found(
        {
            "package.json": {"workspaces": ["a", "./packages/*"]},
            "package-lock.json": "",
            "a/package.json": {},
            "packages/b/package.json": {},
            "packages/.c/package.json": {},
            "packages/d/README": "",
        },
        setup=[
            {
                "run": "npm ci --ignore-scripts",
                "inputs": ["package.json", "package-lock.json", "a/package.json", "packages/b/package.json"],
            }
        ],
        endpoints=["npm"],
    ),
    "a dependency in a directory": Found(
        {"package.json": {"dependencies": {"x": "file:./lib/x"}}, "package-lock.json": "", "lib/x/package.json": {}},
        setup=[{"run": "npm ci" + MOVED, "inputs": ["package.json", "package-lock.json", "lib/x"]}],
        endpoints=["npm"],
    ),
    "a dependency outside": Found(
        {"package.json": {"dependencies": {"x": "file:../x"}}, "package-lock.json": ""},
        left_out=[{"run": "npm ci" + MOVED, "inputs": ["package.json", "package-lock.json"]}],
        endpoints=["npm"],
    ),
    "yarn 4": Found(
        {
            "package.json": {"packageManager": "yarn@4.5.0+sha224.0"},
            "yarn.lock": "__metadata:\n  version: 8\n",
            ".yarnrc.yml": 'nodeLinker: node-modules\nnpmRegistryServer: "https://yarn.acme.example"\n',
            ".yarn/releases/yarn-4.5.0.cjs": "",
        },
        setup=[
            BERRY.format("@4.5.0"),
            {
                "run": "yarn install --immutable --mode=skip-build",
                "inputs": ["package.json", "yarn.lock", ".yarnrc.yml", ".yarn/releases"],
            },
        ],
        endpoints=["npm", "yarn.acme.example"],
    ),
    "yarn 2 or later, by its lock file": Found(
        {"package.json": {}, "yarn.lock": "# x\n__metadata:\n"},
        setup=[
            BERRY.format(""),
            {"run": "yarn install --immutable --mode=skip-build", "inputs": ["package.json", "yarn.lock"]},
        ],
        endpoints=["npm"],
    ),
    "settings of npm, without a token": Found(
        {"package.json": {"dependencies": {"a": "1"}}, ".npmrc": "registry=https://npm.acme.example/\n"},
        setup=[{"run": "npm install" + MOVED, "inputs": ["package.json", ".npmrc"]}],
        endpoints=["npm", "npm.acme.example"],
    ),
    "byte order marks": Found(
        {"package.json": "\ufeff{}", ".nvmrc": "\ufeff22"}, left_out=["sudo npm install -g node@22"], endpoints=["npm"]
    ),
    "a version for mise": Found(
        {"package.json": {}, "mise.toml": "[tools]\nnode = '24'\n"},
        left_out=["sudo npm install -g node@24", "sudo npm install -g @jdxcode/mise && mise install"],
        endpoints=["npm"],
    ),
    "a newer node": Found(
        {"package.json": {}, ".nvmrc": "v22.3"}, left_out=["sudo npm install -g node@22"], endpoints=["npm"]
    ),
    "the node that is there": Found({"package.json": {"engines": {"node": ">=18"}}}, endpoints=["npm"]),
    "a registry of its own": Found(
        {
            "package.json": {},
            ".npmrc": "@acme:registry=https://npm.acme.example/\n//npm.acme.example/:_authToken=abc\n",
        },
        endpoints=["npm", "npm.acme.example"],
        hide=[".npmrc"],
    ),
    "pip": Found(
        {"requirements.txt": "flask\n-r dev.txt\n", "dev.txt": "pytest\n"},
        setup=[{"run": f"{PIP} -r requirements.txt", "inputs": ["requirements.txt", "dev.txt"]}],
        endpoints=["pypi"],
    ),
    "pip, from git and an index": Found(
        {
            "requirements.txt": "--index-url https://pip.acme.example/simple\na @ git+https://git.acme.example/a.git@v1\n"
        },
        setup=[{"run": f"{PIP} -r requirements.txt", "inputs": ["requirements.txt"]}],
        endpoints=["pypi", "pip.acme.example", "git.acme.example"],
    ),
    "pip, with files that are not there": Found(
        {"requirements.txt": "-r ../other.txt\n"},
        left_out=[{"run": f"{PIP} -r requirements.txt", "inputs": ["requirements.txt"]}],
        endpoints=["pypi"],
    ),
    "pip, of the project itself": Found(
        {"requirements.txt": "-e .\n"},
        left_out=[{"run": f"{PIP} -r requirements.txt", "inputs": ["requirements.txt"]}],
        endpoints=["pypi"],
    ),
    "a package": Found(
        {"pyproject.toml": '[project]\nname = "a"\ndependencies = ["b"]\n'},
        setup=[{"run": LISTED, "inputs": ["pyproject.toml"]}],
        endpoints=["pypi"],
    ),
    "a package without a list": Found(
        {"setup.py": "", "setup.cfg": ""},
        left_out=[{"run": f"{PIP} -e .", "inputs": ["setup.py", "setup.cfg"]}],
        endpoints=["pypi"],
    ),
    "pipenv": Found(
        {"Pipfile": '[[source]]\nurl = "https://pip.acme.example/simple"\n[packages]\n', "Pipfile.lock": "{}"},
        setup=[
            f"{PIP} pipenv",
            {"run": "~/.local/bin/pipenv sync --dev", "inputs": ["Pipfile", "Pipfile.lock"]},
        ],
        endpoints=["pypi", "pip.acme.example"],
    ),
    "an older python": Found(
        {"requirements.txt": "flask\n", ".python-version": "3.11.4\n"},
        setup=[{"run": f"{PIP} -r requirements.txt", "inputs": ["requirements.txt"]}],
        left_out=[f"{PIP} uv && ~/.local/bin/uv python install 3.11.4"],
        endpoints=["pypi", *PYTHONS],
    ),
    "a python that excludes the machine's": Found(
        {"pyproject.toml": '[project]\nrequires-python = ">=3.9,<3.12"\n'},
        left_out=[f"{PIP} uv && ~/.local/bin/uv python install 3.9"],
        endpoints=["pypi", *PYTHONS],
    ),
    "the python that is there": Found(
        {"pyproject.toml": '[project]\nrequires-python = "~=3.10"\n'}, endpoints=["pypi"]
    ),
    "uv, with another python and a workspace": Found(
        {
            "pyproject.toml": '[tool.uv.workspace]\nmembers = ["libs/*"]\n',
            "uv.lock": "",
            ".python-version": "3.12",
            "libs/a/pyproject.toml": "",
        },
        setup=[
            f"{PIP} uv",
            {
                "run": "~/.local/bin/uv sync --frozen --no-install-workspace",
                "inputs": ["pyproject.toml", "uv.lock", ".python-version", "libs/a/pyproject.toml"],
                "env": {"UV_PROJECT_ENVIRONMENT": "/home/agent/.venv"},
            },
        ],
        endpoints=["pypi", *PYTHONS],
        noted=[".python-version asks for 3.12"],
    ),
    "uv": Found(
        {"pyproject.toml": '[[tool.uv.index]]\nurl = "https://pip.acme.example/simple"\n', "uv.lock": ""},
        setup=[
            f"{PIP} uv",
            {
                "run": "~/.local/bin/uv sync --frozen --no-install-project",
                "inputs": ["pyproject.toml", "uv.lock"],
                "env": {"UV_PROJECT_ENVIRONMENT": "/home/agent/.venv"},
            },
        ],
        endpoints=["pypi", "pip.acme.example"],
    ),
    "poetry": Found(
        {"pyproject.toml": "", "poetry.lock": ""},
        setup=[
            f"{PIP} poetry",
            {
                "run": "~/.local/bin/poetry install --no-root --no-interaction",
                "inputs": ["pyproject.toml", "poetry.lock"],
            },
        ],
        endpoints=["pypi"],
    ),
    "rust": Found(
        {
            "Cargo.toml": "",
            "Cargo.lock": "",
            ".cargo/config.toml": '[registries.a]\nindex = "sparse+https://crates.acme.example/"\n',
        },
        packages=["cargo"],
        left_out=[{"run": "cargo fetch --locked", "inputs": ["Cargo.toml", "Cargo.lock"]}],
        endpoints=[*CRATES, "crates.acme.example"],
    ),
    "rust, one package": Found(
        {"Cargo.toml": '[package]\nname = "a"\n', "src/main.rs": ""},
        packages=["cargo"],
        setup=[{"run": "mkdir -p src && touch src/lib.rs && cargo fetch", "inputs": ["Cargo.toml"]}],
        endpoints=CRATES,
    ),
    "rust, another version": Found(
        {
            "Cargo.toml": '[package]\nname = "a"\n[[bin]]\nname = "b"\n',
            "src/bin/b.rs": "",
            "rust-toolchain.toml": '[toolchain]\nchannel = "1.90"\n',
        },
        packages=["rustup", "build-essential"],
        setup=["rustup default 1.90", {"run": "cargo fetch", "inputs": ["Cargo.toml", "rust-toolchain.toml", "src"]}],
        endpoints=[*CRATES, *REGISTRIES["rust"].hosts],
    ),
    "go": Found(
        {"go.mod": "module a\n\ngo 1.22.1\n"},
        packages=["golang-go"],
        setup=[{"run": "go mod download", "inputs": ["go.mod"]}],
        endpoints=["go"],
    ),
    "go, a newer one": Found(
        {"go.mod": "module a\n\ngo 1.26\n", "go.sum": ""},
        packages=["golang-go"],
        setup=[{"run": "go mod download", "inputs": ["go.mod", "go.sum"], "env": {"GOTOOLCHAIN": "auto"}}],
        endpoints=["go", "dl.google.com"],
    ),
    "go, with a module beside it": Found(
        {"go.mod": "module a\nreplace b => ../b\n"},
        packages=["golang-go"],
        left_out=[{"run": "go mod download", "inputs": ["go.mod"]}],
        endpoints=["go"],
    ),
    "ruby": Found(
        {"Gemfile": "source 'https://gems.acme.example'\n"},
        packages=["ruby-dev", "ruby-bundler", "build-essential"],
        setup=[{"run": "bundle install", "inputs": ["Gemfile"], "env": {"BUNDLE_PATH": "/home/agent/.bundle/gems"}}],
        endpoints=["gems.acme.example", "rubygems"],
    ),
    "ruby, another version": Found(
        {"Gemfile": "ruby '3.4.1'\n"},
        packages=["ruby-dev", "ruby-bundler", "build-essential"],
        left_out=[
            "sudo ruby-build 3.4.1 /usr/local",
            {"run": "bundle install", "inputs": ["Gemfile"], "env": {"BUNDLE_PATH": "/home/agent/.bundle/gems"}},
        ],
        endpoints=["rubygems", *REGISTRIES["ruby"].hosts],
    ),
    "compose": Found(
        {
            "compose.yaml": "services: {db: {image: postgres:17}, web: {build: web}}",
            "web/Dockerfile": "FROM ghcr.io/a/b AS x\nFROM x\n",
        },
        services={"include": "compose.yaml"},
        endpoints=["docker-hub", "ghcr"],
    ),
    "compose, with a Dockerfile of many images": Found(
        {
            "compose.yaml": "services: {web: {build: {context: ., additional_contexts: "
            "{base: 'docker-image://quay.io/a/base', there: ./there}}}}",
            "Dockerfile": "# check=skip=all\n# syntax=docker/dockerfile:1\nARG AT=ghcr.io\nFROM $AT/a/b AS x\n"
            "FROM scratch\nCOPY --link --from=gcr.io/a/tool /t /t\nCOPY --from=x /x /x\nCOPY --from=0 /x /x\n"
            "COPY --from=there . .\nRUN --mount=type=bind,from=mcr.microsoft.com/a/c,target=/c true\n",
        },
        services={"include": "compose.yaml"},
        endpoints=["quay", "docker-hub", "ghcr", "gcr", "mcr"],
    ),
    "compose, with a file over it": Found(
        {
            "compose.yaml": "services: {db: {image: 'postgres:${V:-16}-alpine'}}",
            "compose.override.yaml": "services: {db: {ports: ['5432']}, mail: {image: 'ghcr.io/a/mail:${M:-1}'}}",
        },
        services={"include": ["compose.yaml", "compose.override.yaml"]},
        endpoints=["docker-hub", "ghcr"],
    ),
    "compose, with variables": Found(
        {
            "docker-compose.yml": "services: {a: {image: '${R:-quay.io}/a/b:${T:?say which}'}, b: {image: '$X/b'}}",
            ".env": "X=quay.io\n",
        },
        services={"include": "docker-compose.yml"},
        endpoints=["quay"],
        hide=[".env"],
        noted=["docker-compose.yml demands T", "image of b in docker-compose.yml has a variable"],
    ),
    "compose, by its older name": Found(
        {"docker-compose.yml": "services: {db: {image: localhost/debian:13}}"},
        services={"include": "docker-compose.yml"},
    ),
    "a dockerfile": Found({"Dockerfile": "FROM scratch\n"}, services={}),
    "private files": Found(
        {".env": "A=1", ".env.example": "", "a.pem": "", "id_rsa": ""}, hide=[".env", "*.pem", "id_rsa"]
    ),
    "claude code": Found({"CLAUDE.md": ""}, agent="claude-code"),
    "two agents": Found({"CLAUDE.md": "", "GEMINI.md": ""}),
    "copilot": Found({".github/copilot-instructions.md": ""}, agent="copilot"),
    "broken files": Found(
        {"package.json": "{", "pyproject.toml": "[", "Cargo.toml": "\0"},
        packages=["cargo"],
        left_out=[{"run": "cargo fetch", "inputs": ["Cargo.toml"]}],
        endpoints=["npm", "pypi", *CRATES],
        noted=["package.json cannot be read", "pyproject.toml cannot be read", "Cargo.toml cannot be read"],
    ),
    "files of another shape": Found(
        {"package.json": "[1]", "pyproject.toml": "project = 1", "compose.yaml": "services: [1]", ".nvmrc": "\x1b[2J"},
        endpoints=["npm", "pypi"],
        noted=["compose.yaml"],
    ),
    "deep": Found(
        {"package.json": '{"a":' * 5000, "compose.yaml": "[" * 5000},
        endpoints=["npm"],
        noted=["package.json", "compose.yaml"],
    ),
}


@pytest.mark.parametrize("name", PROJECTS)
def test_project(name: str, tmp_path: Path) -> None:
    wanted = PROJECTS[name]
    wanted.write(tmp_path)
    found = look(tmp_path)
    active = [proposal for proposal in found.proposals if proposal.active]
    for section in ("packages", "setup", "endpoints"):
        assert [_plain(item.value) for item in active if item.section == section] == getattr(wanted, section), section
    assert {item.path[1]: item.value for item in active if item.section == "services"} == wanted.services
    assert [item.value for item in found.proposals if not item.active and item.section == "setup"] == wanted.left_out
    assert (found.hide, found.agent) == (wanted.hide, wanted.agent)
    loaded, refused = starter(tmp_path, found)
    sandbox = loaded.sandbox
    assert set(wanted.packages) <= set(sandbox.packages)
    assert {end.host or end.group or end.github[0] for end in sandbox.endpoints} == {"debian", *wanted.endpoints}
    for text in wanted.noted:
        assert any(note.startswith(text) for note in [*found.notes, *refused]), (text, found.notes, refused)
    assert len(found.notes) + len(refused) == len(wanted.noted)


def _plain(value: Any) -> Any:
    return value.get("github", value) if isinstance(value, dict) else value


def test_several_languages_at_once(tmp_path: Path) -> None:
    for name in ("pnpm", "pip", "rust", "go", "ruby", "compose", "private files", "claude code"):
        PROJECTS[name].write(tmp_path)
    loaded, refused = starter(tmp_path, look(tmp_path), "claude-code")
    assert refused == [] and loaded.sandbox.agent is not None and loaded.sandbox.agent.use == "claude-code"
    assert set(loaded.sandbox.services) == {"db", "web"}
    text = loaded.path.read_text()
    assert '    #hide: [.env, "*.pem", id_rsa]' in text
    assert loaded.sandbox.mounts[0].local == ("node_modules", ".venv", "target")


def test_what_stays_on_the_machines_own_disk(tmp_path: Path) -> None:
    """Poetry and Pipenv would take an empty `.venv` for theirs, and a link of the host is no directory."""
    for name, local in (("npm", ["node_modules"]), ("poetry", []), ("pip", [".venv"])):
        project = tmp_path / name
        project.mkdir()
        PROJECTS[name].write(project)
        assert look(project).local == local
    (tmp_path / "npm" / "node_modules").symlink_to("/somewhere")
    assert look(tmp_path / "npm").local == []


@pytest.mark.parametrize("mode", ["rw", "ro", "clone", "none"])
def test_modes_of_the_mount(mode: str, tmp_path: Path) -> None:
    for files in ({}, {".env": ""}):
        Found(files).write(tmp_path)
        loaded, _ = starter(tmp_path, look(tmp_path), mode=mode)
        assert [mount.mode for mount in loaded.sandbox.mounts] == ([] if mode == "none" else [mode])
