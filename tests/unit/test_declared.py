"""What a fresh machine needs is written down: it has nothing that only this one happens to have."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SHIPPED = ("sandboxfile", "vmm", "engine")
AROUND = ("tests", "bench", "scripts")
SHARED = ROOT / "tests" / "support"
PART_OF = {"pydantic-core": "pydantic"}  # which pins it to one version
# run there, with what is there
IN_THE_GUEST = ("bench/spawn_in_guest.py", "engine/build/image/clients.py", "tests/e2e/clients", "tests/projects")


def third_party(source: str) -> Iterator[str]:
    """Top names of what is imported from outside of this repository and the standard library, also within functions."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for top in {name.split(".")[0] for name in names}:
            if top not in sys.stdlib_module_names and top not in SHIPPED:
                yield top


def declared(*extras: str) -> set[str]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return {_normal(re.match(r"[\w.-]+", line).group()) for line in lines}  # type: ignore[union-attr]


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _known(distribution: str) -> str:
    name = _normal(distribution)
    return PART_OF.get(name, name)


def undeclared(folder: str, allowed: set[str]) -> list[str]:
    elsewhere = [ROOT / place for place in IN_THE_GUEST]
    known = sorted((ROOT / folder).rglob("*.py"))
    files = [path for path in known if not any(path.is_relative_to(place) for place in elsewhere)]
    ours = {path.stem for path in [*files, *SHARED.glob("*.py")]}
    providers = packages_distributions()
    return [
        f"{path.relative_to(ROOT)}: {top}"
        for path in files
        for top in sorted(third_party(path.read_text()))
        # where the distribution is not installed (atheris), the module's own name is its name
        if top not in ours and not {_known(name) for name in providers.get(top, [top])} & allowed
    ]


@pytest.mark.parametrize("folder", SHIPPED)
def test_what_the_product_imports_is_a_dependency(folder: str) -> None:
    assert undeclared(folder, declared()) == []


@pytest.mark.parametrize("folder", AROUND)
def test_what_tests_and_scripts_import_is_a_dependency_of_development(folder: str) -> None:
    assert undeclared(folder, declared("dev", "fuzz")) == []


def test_a_missing_one_is_found() -> None:
    assert list(third_party("def f():\n    from dotenv.parser import parse_stream\n")) == ["dotenv"]
    assert undeclared("engine", declared() - {"click"})


def test_names_of_test_files_are_unique() -> None:
    # Without packages pytest imports them by their bare names: the second of a name fails, at times.
    of_guests = ROOT / "tests/projects"
    paths = [path for path in (ROOT / "tests").rglob("*.py") if not path.is_relative_to(of_guests)]
    names = Counter(path.name for path in paths if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []
