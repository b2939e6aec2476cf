"""Where a project in JavaScript has packages from, besides its registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starter_conversion import written
from starter_world import look, starter

SHOP = {"github": "acme/shop"}


@pytest.mark.parametrize(
    ("source", "endpoint"),
    [
        ("github:acme/shop", SHOP),
        ("acme/shop#v1.2", SHOP),
        ("git+https://github.com/acme/shop.git#semver:^1", SHOP),
        ("git+ssh://git@github.com/acme/shop.git", SHOP),
        ("git@github.com:acme/shop.git", SHOP),
        ("git+https://git.acme.example/shop.git", "git.acme.example"),
        ("https://files.acme.example/shop-1.tgz", "files.acme.example"),
        ("gitlab:acme/shop", "gitlab.com"),
        ("^1.2.3", None),
        ("file:./lib", None),
        ("npm:@acme/shop@1", None),
        ("workspace:*", None),
        ("latest", None),
    ],
)
@pytest.mark.parametrize("key", ["dependencies", "devDependencies"])
def test_a_dependency_of_package_json(source: str, endpoint: Any, key: str, tmp_path: Path) -> None:
    assert endpoints(tmp_path, {"package.json": {key: {"x": source}}}) == ([] if endpoint is None else [endpoint])


@pytest.mark.parametrize("lock", ["package-lock.json", "npm-shrinkwrap.json"])
def test_what_a_lock_file_has_from_elsewhere(lock: str, tmp_path: Path) -> None:
    packages = {
        "": {"name": "shop", "version": "1.0.0"},
        "node_modules/a": {"resolved": "https://npm.acme.example/a/-/a-1.0.0.tgz"},
        "node_modules/b": {"resolved": "git+ssh://git@github.com/acme/shop.git#0123"},
        "node_modules/c": {"resolved": "https://www.npmjs.example/c/-/c-1.0.0.tgz"},  # npm asks its registry instead
        "node_modules/d": {"resolved": "lib", "link": True},
        "node_modules/e": 1,
    }
    found = endpoints(tmp_path, {"package.json": {}, lock: {"lockfileVersion": 3, "packages": packages}})
    assert found == [SHOP, "npm.acme.example"]


def test_an_older_lock_file(tmp_path: Path) -> None:
    inner = {"b": {"version": "git+https://git.acme.example/b.git#0123"}}
    dependencies = {"a": {"version": "1.0.0", "dependencies": inner}}
    lock = {"lockfileVersion": 1, "dependencies": dependencies}
    assert endpoints(tmp_path, {"package.json": {}, "package-lock.json": lock}) == ["git.acme.example"]


def endpoints(root: Path, files: dict[str, Any]) -> list[Any]:
    written(root, files, "")
    found = look(root)
    assert starter(root, found)[1] == []
    return [item.value for item in found.proposals if item.section == "endpoints" and item.value != "npm"]
