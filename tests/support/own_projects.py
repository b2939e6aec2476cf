"""Small projects of all kinds, with what their starter file must say, and the command that shows that it works.

Each is a folder of tests/projects. No registry's name is in them: marks stand for the URLs that this host's clients
are configured with, as they would be in the lock files of a user of this host.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "projects"
GO, RUST, JAVA = "Go's module proxy", "the index of crates", "Maven Central"
NO_CLIENT = "{} cannot be reached from where this project is developed"


@dataclass(frozen=True)
class OwnProject:
    """`test` uses what was installed, and prints `said` last. `steps` are what the steps that run begin with.

    `source` is what `init --from` converts. `not_run` says why nobody has started it; its file and its plan are
    checked.
    """

    test: str
    endpoints: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()  # what the steps that are commented out begin with
    said: str = "checked 7.8.0"
    source: str = ""
    not_run: str = ""


PIP = "pip install --user --break-system-packages"
_NPM = "npm ci && mkdir -p node_modules && sudo mv node_modules /"
PROJECTS = {
    "npm": OwnProject("npm test", ("npm",), (_NPM,)),
    "pip": OwnProject("python3 check.py", ("pypi",), (f"{PIP} -r requirements.txt",)),
    "uv": OwnProject("~/.local/bin/uv run check.py", ("pypi",), (f"{PIP} uv", "~/.local/bin/uv sync --frozen")),
    "pnpm": OwnProject(
        "pnpm install --offline && pnpm test", ("npm",), ("sudo npm install -g pnpm && pnpm config set", "pnpm fetch")
    ),
    "poetry": OwnProject(
        "~/.local/bin/poetry run python check.py",
        ("pypi",),
        (f"{PIP} poetry", "~/.local/bin/poetry install --no-root --no-interaction"),
    ),
    "worktree": OwnProject("python3 check.py", ("pypi",), (f"{PIP} -r requirements.txt",)),
    "yarn-1": OwnProject("yarn test", ("npm",), ("sudo npm install -g yarn", "yarn install --frozen-lockfile")),
    "pipenv": OwnProject(
        "~/.local/bin/pipenv run python check.py", ("pypi",), (f"{PIP} pipenv", "~/.local/bin/pipenv sync --dev")
    ),
    "monorepo": OwnProject(
        "(cd web && npm test) && cd api && python3 check.py",
        ("pypi", "npm"),
        (f"cd api && {PIP} -r requirements.txt", f"cd web && {_NPM}"),
    ),
    "yarn-4": OwnProject(
        "yarn install && yarn test",
        ("npm",),
        ("sudo npm install -g @yarnpkg/cli-dist@4.13 && yarn config set --home", "yarn install --immutable"),
    ),
    "pyproject": OwnProject("python3 check.py", ("pypi",), ("python3 -c 'import tomllib",)),
    "compose": OwnProject(
        "curl -sS --retry 300 --retry-delay 1 --retry-all-errors http://localhost:18000",  # it has no health check
        ("debian",),
        services=("db", "web"),
        said="checked 1",
    ),
    "bun": OwnProject("bun run test", ("npm",), ("sudo npm install -g bun", "bun install --frozen-lockfile")),
    "npm-workspace": OwnProject("npm install && npm test -w words", ("npm",), ("npm ci --ignore-scripts",)),
    "deno": OwnProject("deno task test", ("npm", "'jsr'"), ("sudo npm install -g deno",), offered=("deno install",)),
    "go": OwnProject(
        "go run .",
        ("'go'",),
        ("go mod download",),
        ("golang-go",),
        not_run=NO_CLIENT.format(GO),
    ),
    "cargo": OwnProject(
        "cargo run",
        ("'crates'",),
        ("mkdir -p src && touch src/lib.rs && cargo fetch",),
        ("cargo",),
        not_run=NO_CLIENT.format(RUST),
    ),
    "maven": OwnProject(
        "mvn -B test",
        ("'maven'",),
        packages=("default-jdk-headless", "maven"),
        offered=("mvn -B dependency:go-offline",),
        not_run=NO_CLIENT.format(JAVA),
    ),
    "gradle": OwnProject(
        "./gradlew --no-daemon test",
        ("'maven'", "plugins.gradle.org", "services.gradle.org", "gradle/gradle-distributions"),
        packages=("default-jdk-headless",),
        offered=("./gradlew --no-daemon dependencies",),
        not_run=NO_CLIENT.format(f"{JAVA}, like Gradle's releases,"),
    ),
    "composer": OwnProject(
        "composer install && php check.php",
        ("'packagist'",),
        packages=("php-cli", "composer"),
        offered=("composer install --no-scripts",),
        not_run=NO_CLIENT.format("Packagist"),
    ),
    "bundler": OwnProject(
        "bundle exec ruby check.rb",
        ("'rubygems'",),
        ("bundle install",),
        ("ruby-dev", "ruby-bundler", "build-essential"),
        not_run=NO_CLIENT.format("the index of gems"),
    ),
    "mix": OwnProject(
        "mix deps.get && mix test",
        ("'hex'",),
        ("mix local.hex --force && mix local.rebar --force",),
        ("elixir", "erlang-dev"),
        offered=("mix deps.get",),
        not_run=NO_CLIENT.format("Hex"),
    ),
    "dotnet": OwnProject(
        "~/.dotnet/dotnet run",
        ("'nuget'", "builds.dotnet.microsoft.com"),
        packages=("libicu-dev",),
        offered=("curl -fsSL https://dot.net/v1/dotnet-install.sh",),
        not_run=NO_CLIENT.format("NuGet"),
    ),
    "rails": OwnProject(
        "bin/rails test",
        ("'docker-hub'", "'rubygems'"),
        ("bundle install",),
        packages=("gh", "ruby-dev", "ruby-bundler", "build-essential", "libyaml-dev"),
        offered=("bin/setup --skip-server",),
        services=("redis",),
        source=".devcontainer/devcontainer.json",
        not_run=NO_CLIENT.format("a registry of containers"),
    ),
}
STARTED = tuple(name for name, project in PROJECTS.items() if not project.not_run)
# Where nobody asks the host's clients.
NOBODY = {"@NPM@": "https://npm.example", "@PYPI@": "https://pypi.example/simple", "@PYPI_FILES@": "https://f.example"}


def write_project(name: str, root: Path, urls: Mapping[str, str] = NOBODY) -> None:
    """Copy the project to `root`, which is new, with `urls` in the place of its marks."""
    shutil.copytree(FOLDER / name, root)
    for path in (path for path in root.rglob("*") if path.is_file()):
        text = path.read_text()
        for mark, url in urls.items():
            text = text.replace(mark, url)
        path.write_text(text)


def as_worktree(root: Path, repository: Path) -> None:
    """Make the project a worktree of a new repository."""

    def git(directory: Path, *argv: str) -> None:
        settings = ("-c", "user.email=a@example.com", "-c", "user.name=a")
        subprocess.run(["git", *settings, *argv], cwd=directory, check=True, capture_output=True)

    root.rename(repository)
    git(repository, "init", "-q", ".")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "all of it")
    git(repository, "worktree", "add", "-q", str(root))
