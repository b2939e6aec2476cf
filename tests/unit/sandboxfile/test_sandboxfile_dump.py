"""The resolved file: it loads to the same value, and says where each value was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxfile import Inputs, Loaded, load, parse
from sandboxfile.positions import render_path
from sandboxfile.reading.source import read_source
from sandboxfile.writing.dump import origins, to_data, to_text, write_yaml

FILE = Path("/project/Sandboxfile.yaml")
GOOD = sorted((Path(__file__).parents[2] / "contract/sandboxfile/good").glob("*.yaml"))


def again(loaded: Loaded, text: str) -> Loaded:
    return parse(text, FILE.with_name("Other.yaml"))


@pytest.mark.parametrize("defaults", [False, True])
@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_the_resolved_file_loads_to_the_same_value(file: Path, defaults: bool) -> None:
    loaded = parse(file.read_bytes(), FILE)
    for one in (loaded, *loaded.members):
        assert again(one, to_text(one.sandbox, defaults=defaults)).sandbox == one.sandbox


def test_no_variable_is_left_in_it() -> None:
    text = (
        "version: '1'\nagent: {command: [sh, $X], env: {A: $A, B: $$B}}\n"
        "services: {a: {image: a, command: '$$C ${D:-d}'}}"
    )
    loaded = parse(text, FILE, Inputs(environment={"A": "a$Z"}))
    resolved = to_text(loaded.sandbox)
    assert again(loaded, resolved).sandbox == loaded.sandbox
    assert "A: a$$Z" in resolved and "B: $$B" in resolved and "command: $$C d" in resolved


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20) | st.sampled_from(
    ["yes", "no", "null", "~", "1", "01", "1.5", "1e3", "0x1f", "12:30", "2020-01-01", "- a", "a: b", "a #b", "#", "*a",
     "&a", "!t", "%", "@", "`", "'", '"', "\\", " lead", "trail ", "a:", "[", "{", "|", ">", "=", "<<", "é", "\u00a0",
     "4GiB", "./x", ".5", ".inf", "1_000", "+1", "-", "--- a", "...", "true", "OFF", "$", "${A}", "$$", "emoji 🎉"]
)  # fmt: skip
SCRIPTS = st.lists(st.sampled_from(["echo a", "  indented", "", "trail ", "tab\there", "# c", "$X"]), max_size=5).map(
    "\n".join
)


SCALARS = TEXTS | SCRIPTS | st.integers(-(2**60), 2**60) | st.booleans() | st.none()


def collections(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)


@given(st.recursive(SCALARS, collections, max_leaves=12))
def test_any_data_is_read_back_from_its_yaml(value: Any) -> None:
    source = read_source(write_yaml({"value": value}), "x")
    if any("invisible" in problem.message for problem in source.problems):
        return  # characters that the reader refuses anywhere
    assert source.problems == []
    assert source.data == {"value": value}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(env=st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), TEXTS, max_size=4), run=TEXTS)
def test_any_text_survives(env: dict[str, str], run: str) -> None:
    agent = {"command": ["sh"], "env": {name: value.replace("$", "$$") for name, value in env.items()}}
    services = {"a": {"image": "a", "command": run.replace("$", "$$")}}
    source = write_yaml({"version": "1", "agent": agent, "services": services})
    try:
        loaded = parse(source, FILE)
    except Exception as error:
        assert "diagnostics" in dir(error)
        return
    assert again(loaded, to_text(loaded.sandbox)).sandbox == loaded.sandbox


def test_every_value_says_where_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "Sandboxfile.yaml").write_text(
        'version: "1"\nmachine: {cpus: 1, memory: $MEM}\nmounts: [.:/w]\nservices: {include: c.yaml}\nports: [80]\n'
    )
    (tmp_path / "Sandboxfile.local.yaml").write_text("machine:\n  cpus: 3\n")
    (tmp_path / "c.yaml").write_text("services:\n  a:\n    image: a\n")
    inputs = Inputs((), ("ports[0]=90:80",), {"MEM": "1GiB"})
    loaded = load(tmp_path / "Sandboxfile.yaml", inputs)
    said = {
        render_path(row.path): (row.value, row.source, row.variables)
        for row in origins(loaded.sandbox, loaded.document(), loaded.variables)
    }
    assert said["version"] == ("1", "Sandboxfile.yaml:1", ())
    assert said["name"][1] == "the directory's name"
    assert said["machine.cpus"] == (3, "Sandboxfile.local.yaml:2", ())
    assert said["machine.memory"] == ("1GiB", "Sandboxfile.yaml:2", ("MEM (environment)",))
    assert said["machine.disk"] == ("20GiB", "default", ())
    assert said["mounts[0].source"] == (".", "Sandboxfile.yaml:3", ())
    assert said["mounts[0].mode"] == ("rw", "default", ())
    assert said["ports[0].host"] == (90, "--set ports[0]=90:80", ())
    assert said["services.a.image"] == ("a", "c.yaml:3", ())


def test_sections_are_in_the_order_of_the_format() -> None:
    data = to_data(parse("version: '1'\nports: [80]\nmachine: {cpus: 1}\nname: x\n", FILE).sandbox)
    assert list(data) == ["version", "name", "machine", "ports"]
