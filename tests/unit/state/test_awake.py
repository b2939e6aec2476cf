"""The quick way to a running sandbox against the one that knows every sandbox and says what is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.lifecycle.selection import choose_running
from engine.state.awake import VERSION, Awake, find_awake
from engine.state.layout import Layout
from engine.state.processes import describe_process
from engine.state.trees import remove_tree

ME = {"pid": os.getpid(), "process": describe_process(os.getpid())}


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: one within a project within another."""
    here = tmp_path / "outer" / "project" / "src"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    return here


def write(layout: Layout, name: str, project: Path, **changes: Any) -> None:
    path = layout.instance(name).record
    path.parent.mkdir(parents=True)
    record = {"name": name, "project": str(project), "file": "", "plan_key": "0", "created": "", "state": "running"}
    path.write_text(json.dumps({**record, **ME, "version": VERSION, "working_directory": "/w", **changes}))


def quick(name: str | None) -> tuple[str, str | None] | None:
    found: Awake | None = find_awake(os.environ, name)
    return (found.control, found.working_directory) if found else None


def thorough(layout: Layout, name: str | None) -> tuple[str, str | None] | None:
    try:
        instance, control = choose_running(layout, name)
    except EngineError:
        return None
    return str(control), instance.working_directory


def test_the_sandbox_of_the_project_and_one_by_its_name(layout: Layout, here: Path) -> None:
    write(layout, "shop", here.parent)
    write(layout, "x" * 64, here.parent.parent, working_directory=None)
    (layout.instances / "left").mkdir()
    assert quick(None) == quick("shop") == thorough(layout, None) == (f"{layout.runtime}/shop/control.sock", "/w")
    assert quick("x" * 64) == thorough(layout, "x" * 64) is not None


ODD = {"1", 5, 7, "odd", VERSION + 1}  # damaged, or of a newer version
RECORDS = {
    "state": st.sampled_from(["running", "running", "running", "paused", "stopped", "failed", "starting", "odd"]),
    "pid": st.sampled_from([ME["pid"], ME["pid"], None, 1, "1"]),
    "process": st.sampled_from([ME["process"], ME["process"], None, "other", 7]),
    "version": st.sampled_from([VERSION, VERSION, VERSION + 1, "1"]),
    "working_directory": st.sampled_from(["/w", None, 5]),
}
SANDBOXES = st.dictionaries(
    st.sampled_from(["shop", "cart", "x" * 40]),
    st.tuples(st.sampled_from(["outer", "outer/project", "outer/proj", "elsewhere"]), st.fixed_dictionaries(RECORDS)),
    max_size=3,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(SANDBOXES, st.sampled_from([None, None, "shop", "cart", "gone", "../shop"]))
def test_what_it_finds_is_what_all_commands_find(
    layout: Layout, here: Path, sandboxes: dict[str, tuple[str, dict[str, Any]]], name: str | None
) -> None:
    remove_tree(layout.instances)
    for each, (project, changes) in sandboxes.items():
        write(layout, each, here.parents[2] / project, **changes)
    found = quick(name)
    assert found is None or found == thorough(layout, name)
    if not any(value in ODD for _, changes in sandboxes.values() for value in changes.values()):
        assert found == thorough(layout, name), "nothing is unusual about any of them"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "shop"}', '{"name": "other", "version": 1, "project": "/"}'])
def test_a_damaged_record_is_for_those_who_say_so(layout: Layout, here: Path, text: str) -> None:
    write(layout, "cart", here.parent)
    write(layout, "shop", here.parent)
    layout.instance("shop").record.write_text(text)
    assert quick("shop") is quick(None) is None
    assert quick("cart") is not None


@pytest.mark.parametrize(
    "changes",
    [{"process": "another"}, {"pid": None}, {"process": None}, {"state": "paused"}, {"state": "starting"}],
    ids=str,
)
def test_one_that_does_not_run_is_for_those_who_say_so(layout: Layout, here: Path, changes: dict[str, Any]) -> None:
    write(layout, "shop", here.parent, **changes)
    assert quick("shop") is quick(None) is None


@pytest.mark.parametrize("root", ["cache", "state", "runtime"])
def test_a_root_that_others_can_enter_is_for_those_who_say_so(layout: Layout, here: Path, root: str) -> None:
    write(layout, "shop", here.parent)
    assert quick("shop") is not None
    getattr(layout, root).chmod(0o750)
    assert quick("shop") is None


def test_a_link_is_no_runtime_directory(layout: Layout, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(layout, "shop", here.parent)
    (here / "link").symlink_to(layout.runtime)
    monkeypatch.setenv("SANDBOX_RUNTIME_DIR", str(here / "link"))
    assert quick("shop") is None


def test_a_socket_whose_path_is_too_long_and_no_directory_at_all(
    layout: Layout, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(layout, "shop", here.parent)
    deep = here / ("d" * 90)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("SANDBOX_RUNTIME_DIR", str(deep))
    assert quick("shop") is None
    monkeypatch.setenv("SANDBOX_RUNTIME_DIR", "here")
    with pytest.raises(EngineError, match="SANDBOX_RUNTIME_DIR must be an absolute path"):
        quick("shop")
