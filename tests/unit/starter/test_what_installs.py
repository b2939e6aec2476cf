"""What the installation of a project needs besides: headers, extras, and the package manager of its lock file."""

from __future__ import annotations

from pathlib import Path

import pytest
from starter_world import look


@pytest.mark.parametrize(
    ("file", "text", "packages"),
    [
        ("requirements.txt", "flask\npsycopg2==2.9.10\n", ["build-essential", "python3-dev", "libpq-dev"]),
        ("requirements.txt", "psycopg2-binary==2.9.10  # psycopg2\n-r psycopg2.txt\n", []),
        ("pyproject.toml", "[project]\ndependencies = ['uWSGI>=2']\n", ["build-essential", "python3-dev"]),
        ("uv.lock", '[[package]]\nname = "psycopg2"\n', ["build-essential", "python3-dev", "libpq-dev"]),
        ("Gemfile", "gem 'rails'\ngem 'pg', '~> 1.5'\n", ["libpq-dev", "libyaml-dev"]),
        ("Gemfile", "gem 'pg_query'\n# gem-pg\n", []),
    ],
)
def test_what_is_compiled_has_its_headers(file: str, text: str, packages: list[str], tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    found = [item for item in look(tmp_path).proposals if item.section == "packages" and "to compile" in item.remark]
    assert [item.value for item in found] == packages


def test_headers_for_what_a_further_file_of_requirements_names(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements.txt").write_text("-r requirements/base.txt\n")
    (tmp_path / "requirements" / "base.txt").write_text("psycopg2==2.9.10\n")
    found = [item for item in look(tmp_path).proposals if item.value == "libpq-dev"]
    assert [item.remark for item in found] == ["to compile psycopg2, from requirements/base.txt"]


@pytest.mark.parametrize(("lock", "named"), [("", "dev, test"), ("uv.lock", "test")])
def test_extras_that_no_step_installs_are_named(lock: str, named: str, tmp_path: Path) -> None:
    text = "[project]\ndependencies = ['a']\n[project.optional-dependencies]\ntest = ['b']\ndocs = ['c']\n"
    (tmp_path / "pyproject.toml").write_text(f"{text}[dependency-groups]\ndev = ['d']\n")
    (tmp_path / (lock or "README")).write_text("")
    said = f"setup does not install what pyproject.toml lists for {named}: add it to a step"
    assert look(tmp_path).notes == [said]


def test_what_tests_need_is_installed_with_the_rest(tmp_path: Path) -> None:
    for name, text in (("", "flask\n"), ("-dev", "-r requirements.txt\n-r lint.txt\npytest\n"), ("-test", "-e .\n")):
        (tmp_path / f"requirements{name}.txt").write_text(text)
    (tmp_path / "lint.txt").write_text("ruff\n")
    found = look(tmp_path)
    [step] = [item.value for item in found.proposals if item.section == "setup"]
    assert step["run"].endswith(" -r requirements.txt -r requirements-dev.txt")
    assert step["inputs"] == ["requirements.txt", "requirements-dev.txt", "lint.txt"]
    assert found.notes == ["setup does not install what requirements-test.txt names: it reads more files"]


@pytest.mark.parametrize(
    ("lock", "text", "installed"),
    [
        ("yarn.lock", "# x\n\n__metadata:\n  version: 6\n  cacheKey: 8\n", "@yarnpkg/cli-dist@3 "),
        ("yarn.lock", "__metadata:\n  version: 8\n", "@yarnpkg/cli-dist@4.13 "),
        ("yarn.lock", "__metadata:\n  version: 10\n", "@yarnpkg/cli-dist "),
        ("yarn.lock", '__metadata:\n  version: 8; x\n\n"a@npm:1":\n  version: 6\n', "@yarnpkg/cli-dist@4.13 "),
        ("yarn.lock", 'a@1:\n  version "6.0.0"\n', "yarn"),
        ("pnpm-lock.yaml", "lockfileVersion: 5.4\n", "pnpm@7 "),
        ("pnpm-lock.yaml", "lockfileVersion: '6.0'\n", "pnpm@8 "),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "pnpm "),
    ],
)
def test_the_package_manager_is_one_that_leaves_the_lock_file_as_it_is(
    lock: str, text: str, installed: str, tmp_path: Path
) -> None:
    (tmp_path / "package.json").write_text("{}")
    (tmp_path / lock).write_text(text)
    setup = [proposal.value for proposal in look(tmp_path).proposals if proposal.section == "setup"]
    assert f"{setup[0]} ".startswith(f"sudo npm install -g {installed}")
