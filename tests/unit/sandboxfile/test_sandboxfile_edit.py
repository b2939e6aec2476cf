"""Adding to a file in place: whatever the file looks like, what was there stays as it was."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from sandboxfile import SandboxfileError, parse
from sandboxfile.writing.additions import Addition, add_to
from sandboxfile.writing.edit import append, insert

GOOD = sorted((Path(__file__).parents[2] / "contract" / "sandboxfile" / "good").glob("*.yaml"))
FILE = "Sandboxfile.yaml"
REMARK = re.compile(r"# (?:[0-9]+ [^\r\n]*|why)")

ENDPOINTS: list[Any] = ["npm", "new.example.com:8443", {"host": "*.new.example", "methods": ["GET"]}]
LISTS: dict[str, list[Any]] = {
    "packages": ["jq", "g++"],
    "setup": ["npm ci", {"run": "make: # all", "inputs": ["Makefile"]}],
    "mounts": ["./new:/new", {"source": ".", "target": "/other", "hide": [".env", "*.pem"]}],
    "endpoints": ENDPOINTS,
    "ports": ["23456:3000", 4001],
}
MAPPINGS: dict[str, dict[str, Any]] = {
    "secrets": {"fresh": {"env": "TOKEN"}},
    "services": {
        "fresh": {"image": "redis:7"},
        "long": {"image": "a", "environment": {"A": "yes", "B": "- x # y"}, "healthcheck": {"test": "exit 0"}},
    },
    "volumes": {"fresh": {}},
}
ADDITIONS = [Addition((name,), value) for name, values in LISTS.items() for value in values] + [
    Addition((name,), value, key) for name, entries in MAPPINGS.items() for key, value in entries.items()
]


def lines_of(text: str) -> list[str]:
    return re.split(r"\r\n|\n|\r", text)


def missing_lines(before: str, after: str) -> list[str]:
    """Lines of `before` that `after` does not have at the place where they would be."""
    missing = []
    position = 0
    new = lines_of(after)
    for line in lines_of(before):
        try:
            position = new.index(line, position) + 1
        except ValueError:
            missing.append(line)
    return missing


def data_of(text: str) -> Any:
    """A text at the end of a file that ends in the middle of a line has no last line break; that may change."""
    whole = text if text.endswith("\n") else f"{text}\n"
    return YAML(typ="safe", pure=True).load(whole.removeprefix("\ufeff"))


# -- files as people write them


@st.composite
def remark(draw: st.DrawFn, column: int) -> list[str]:
    """Nothing, a blank line, comments: what may stand between two lines."""
    kinds = draw(st.lists(st.sampled_from(["blank", "here", "deeper", "left", "example"]), max_size=3))
    number = draw(st.integers(0, 10**6))
    columns = {"here": column, "deeper": column + 3, "left": 0}
    example = draw(st.sampled_from(["#ports: [", "# services:", "#packages: [x]", "#  - x"]))
    texts = {"blank": "", "example": example}
    return [texts[kind] if kind in texts else " " * columns[kind] + f"# {number} {kind}: [x" for kind in kinds]


@st.composite
def ending(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(["", "", "  # why", "   "]))


@st.composite
def written_list(draw: st.DrawFn, name: str, items: list[str], step: int) -> list[str]:
    style = draw(st.sampled_from(["block", "block", "flow", "tall", "tall", "empty"]))
    if style == "empty":
        return [f"{name}: []{draw(ending())}"]
    if style == "flow":
        inside = ", ".join(items) + draw(st.sampled_from(["", ",", " "]))
        return [f"{name}: [{inside}]{draw(ending())}"]
    if style == "tall":
        lines = [f"{name}: [{draw(ending())}"]
        for index, item in enumerate(items):
            last = index == len(items) - 1
            lines.append(f"{' ' * step}{item}{draw(st.sampled_from([',', ''])) if last else ','}{draw(ending())}")
            lines += draw(remark(step))
        return [*lines, "]"]
    column, gap = draw(st.sampled_from([0, step])), draw(st.sampled_from([2, 4]))
    lines = [f"{name}:{draw(ending())}", *draw(remark(column))]
    for item in items:
        lines.append(" " * column + "-".ljust(gap) + item + draw(ending()))
        lines += draw(remark(column))
    return lines


@st.composite
def written_scripts(draw: st.DrawFn, step: int) -> list[str]:
    """Blocks of text, with lines that look like comments, and blank lines at the end that count or do not."""
    lines = [f"setup:{draw(ending())}"]
    for head in draw(st.lists(st.sampled_from(["|", "|-", ">", "|+", "|+  # why"]), min_size=1, max_size=3)):
        lines += [f"{' ' * step}- {head}", f"{' ' * 2 * step}set -e", "", f"{' ' * 2 * step}# no comment"]
        lines += draw(st.lists(st.just(""), max_size=2))
    return lines


@st.composite
def written_mapping(draw: st.DrawFn, name: str, entries: dict[str, dict[str, str]], step: int) -> list[str]:
    flows = {key: "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}" for key, value in entries.items()}
    style = draw(st.sampled_from(["block", "block", "short", "flow", "tall"]))
    if style == "flow" or not entries:
        return [f"{name}: {{{', '.join(f'{key}: {value}' for key, value in flows.items())}}}"]
    if style == "tall":
        inside = [f"{' ' * step}{key}: {value},{draw(ending())}" for key, value in flows.items()]
        return [f"{name}: {{", *inside, "}"]
    lines = [f"{name}:{draw(ending())}", *draw(remark(step))]
    for key, value in entries.items():
        if style == "short" or not value:
            lines.append(f"{' ' * step}{key}: {flows[key]}{draw(ending())}")
        else:
            lines.append(f"{' ' * step}{key}:")
            lines += [f"{' ' * 2 * step}{inner}: {text}{draw(ending())}" for inner, text in value.items()]
        lines += draw(remark(step))
    return lines


@st.composite
def sandboxfiles(draw: st.DrawFn) -> str:
    step, quote = draw(st.sampled_from([2, 3, 4])), draw(st.sampled_from(["'", '"']))

    def some(*items: str) -> list[str]:
        return draw(st.lists(st.sampled_from(items), min_size=1, max_size=len(items), unique=True))

    parts = {
        "name": ["name: shop"],
        "machine": draw(written_mapping("machine", {}, step)),
        "packages": draw(written_list("packages", some("ripgrep", "git"), step)),
        "setup": draw(written_list("setup", some("npm install", f"{quote}echo: x{quote}"), step)),
        "scripts": draw(written_scripts(step)),
        "mounts": draw(written_list("mounts", some(".:/workspace", "{source: ., target: /b}"), step)),
        "endpoints": draw(written_list("endpoints", some("pypi", f"{quote}*.a.example{quote}"), step)),
        "secrets": draw(written_mapping("secrets", {n: {"env": "A"} for n in some("one", "two")}, step)),
        "services": draw(written_mapping("services", {n: {"image": "x"} for n in some("db", "web")}, step)),
        "ports": draw(written_list("ports", some(f"{quote}1000:1000{quote}", "2000"), step)),
    }
    parts["setup"] = draw(st.sampled_from([parts["setup"], parts.pop("scripts")]))
    chosen = draw(st.lists(st.sampled_from(list(parts)), unique=True))
    lines = draw(remark(0))
    for name in draw(st.permutations(["version", *chosen])):
        lines += [f"version: {quote}1{quote}"] if name == "version" else parts[name]
        lines += draw(remark(0))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = newline.join(lines) + draw(st.sampled_from(["", newline]))
    return draw(st.sampled_from(["", "\ufeff"])) + text


@settings(max_examples=max(8, settings.default.max_examples // 6))  # each one loads several files
@given(sandboxfiles(), st.lists(st.sampled_from(ADDITIONS), min_size=1, max_size=4))
def test_what_was_there_stays(text: str, additions: list[Addition]) -> None:
    for addition in additions:
        before = data_of(text)
        outcome = add_to(text, [addition], FILE)
        after = data_of(outcome.text)
        if not outcome.added:
            assert outcome.text == text and len(outcome.present) == 1
            continue
        parse(outcome.text, Path("/project", FILE))
        missing = missing_lines(text, outcome.text)
        assert len(missing) <= 1
        assert not missing or re.search(r"[\[\]{}]|,|^ ", missing[0]), "only a line with brackets may grow"
        assert REMARK.findall(outcome.text) == REMARK.findall(text)
        assert ("\r\n" in text) == ("\r\n" in outcome.text) or "\n" not in text
        assert text.endswith("\n") == outcome.text.endswith("\n")
        assert text.startswith("\ufeff") == outcome.text.startswith("\ufeff")
        assert (
            not any(line != line.rstrip() for line in set(lines_of(outcome.text)) - set(lines_of(text)) - {""})
            or missing
        )
        section = addition.path[0]
        if addition.key is None:
            assert after.pop(section) == [*(before.pop(section, None) or []), addition.value]
        else:
            assert after.pop(section) == {**(before.pop(section, None) or {}), addition.key: addition.value}
        assert after == before
        assert outcome.added[0].value == addition.value
        assert add_to(outcome.text, [addition], FILE).text == outcome.text
        text = outcome.text


WORDS = ["endpoints", "services", "version", "x-a", "- ", "  ", "? ", ": ", ":", "\n", "\n", "\n  ", "[", "]", "{", "}"]
WORDS += [
    ", ",
    "&a ",
    "*a",
    "<<",
    "|",
    "|+",
    ">-",
    "# c",
    "'",
    '"',
    "npm",
    "1",
    "~",
    "---",
    "...",
    "\t",
    "!!str ",
    "é",
    "\r\n",
]


@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join), st.sampled_from(ADDITIONS))
def test_any_text_is_added_to_or_refused(text: str, addition: Addition) -> None:
    for whole in (text, f"version: '1'\n{text}"):
        try:
            outcome = add_to(whole, [addition], FILE)
        except SandboxfileError:
            continue
        assert len(outcome.added) + len(outcome.present) == 1


# -- one by one


def add(text: str, section: str, value: Any, key: str | None = None) -> str:
    return add_to(text, [Addition((section,), value, key)], FILE).text


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_every_good_file_can_be_added_to(file: Path) -> None:
    text = file.read_bytes().decode()
    for section, value in (("endpoints", "new.example"), ("ports", 54321), ("packages", "new")):
        outcome = add_to(text, [Addition((section,), value)], FILE)
        assert len(missing_lines(text, outcome.text)) <= 1
        assert parse(outcome.text, Path("/project", FILE)).sandbox
        text = outcome.text


@pytest.mark.parametrize(
    ("before", "section", "value", "after"),
    [
        # where a section goes
        ('version: "1"', "ports", "1:1", 'version: "1"\nports: ["1:1"]'),
        ('version: "1"\n', "endpoints", "npm", 'version: "1"\nendpoints:\n  - npm\n'),
        (
            "version: '1'\nports: [1]\nname: x\n",
            "packages",
            "jq",
            "version: '1'\nports: [1]\nname: x\npackages: [jq]\n",
        ),
        (
            'version: "1"\n\nmounts:\n- .:/w\n# web\nports: [1]\n',
            "endpoints",
            "npm",
            'version: "1"\n\nmounts:\n- .:/w\nendpoints:\n- npm\n# web\nports: [1]\n',
        ),
        (
            'version: "1"\n\nmounts: [".:/w"]\n# of mounts\n\n# web\nports: [1]\n',
            "endpoints",
            "npm",
            'version: "1"\n\nmounts: [".:/w"]\n# of mounts\n\nendpoints:\n  - npm\n\n# web\nports: [1]\n',
        ),
        (
            "version: '1'\n\n#setup:\n#  - x\n\n# What\n#ports: [1]\n\n#services:\n",
            "ports",
            2,
            "version: '1'\n\n#setup:\n#  - x\n\n# What\n#ports: [1]\nports: [2]\n\n#services:\n",
        ),
        (
            "version: '1'\n#setup:\n#  - x\n\nname: x\n",
            "setup",
            "make",
            "version: '1'\n#setup:\n#  - x\nsetup:\n  - make\n\nname: x\n",
        ),
        ('version: "1"\nendpoints: [] # none\n', "endpoints", "npm", 'version: "1"\nendpoints: # none\n  - npm\n'),
        ('version: "1"\nports:\n  # none\n', "ports", 1, 'version: "1"\nports:\n  # none\n  - 1\n'),
        ("# mine\n", "ports", 1, "# mine\nports:\n  - 1\n"),
        (
            "version: '1'\n\nname: x\nsetup:\n- |+\n  x\n",
            "ports",
            1,
            "version: '1'\n\nname: x\nsetup:\n- |+\n  x\nports: [1]\n",
        ),
        ("", "endpoints", "npm", "endpoints:\n  - npm\n"),
        ("---\nversion: '1'\n...\n", "ports", 1, "---\nversion: '1'\nports: [1]\n...\n"),
        # how an entry is written
        ("version: '1'\nports: ['1:1']\n", "ports", "2:2", "version: '1'\nports: ['1:1', '2:2']\n"),
        ("version: '1'\nports:\n- '1:1'\n", "ports", "2:2", "version: '1'\nports:\n- '1:1'\n- '2:2'\n"),
        ("version: '1'\nports: [1,]\n", "ports", 2, "version: '1'\nports: [1, 2,]\n"),
        ("version: '1'\nports: [1,\n  2]\n", "ports", 3, "version: '1'\nports: [1,\n  2, 3]\n"),
        ("version: '1'\nports: [ # x\n]\n", "ports", 3, "version: '1'\nports: [3 # x\n]\n"),
        (
            "version: '1'\nendpoints:\n  - host: a.b\n    port: 1\n",
            "endpoints",
            {"host": "c.d", "methods": ["GET"]},
            "version: '1'\nendpoints:\n  - host: a.b\n    port: 1\n  - host: c.d\n    methods: [GET]\n",
        ),
        ('{"version": "1"}', "endpoints", "npm", '{"version": "1", "endpoints": ["npm"]}'),
        ('{\n "version": "1"\n}\n', "ports", 1, '{\n "version": "1",\n "ports": [1]\n}\n'),
        ("version: '1'\r\nports:\r\n- 1", "ports", 2, "version: '1'\r\nports:\r\n- 1\r\n- 2"),
    ],
)
def test_the_place_and_the_hand(before: str, section: str, value: Any, after: str) -> None:
    assert add(before, section, value) == after


def test_a_service_is_written_as_its_neighbours_are() -> None:
    redis = {"image": "redis:7", "ports": ["6379:6379"]}
    short = "version: '1'\nservices:\n  db: {image: x}\n"
    assert add(short, "services", redis, "redis") == short + "  redis: {image: redis:7, ports: ['6379:6379']}\n"
    block = "version: '1'\nservices:\n    db:\n        image: x\n\n    web:\n        image: x\n"
    added = "\n    redis:\n        image: redis:7\n        ports: ['6379:6379']\n"
    assert add(block, "services", redis, "redis") == block + added


def test_words_that_other_readers_take_for_something_else_are_quoted() -> None:
    words = ["yes", "22:22", "1.0", "0x1", "*.a", "a: b", "# a", "", "~", "2024-01-01", "a,b", "null", "x\n\ty", "ö"]
    text = "version: '1'\nservices:\n  a: {image: x}\n"
    grown = add(text, "services", {"image": "x", "command": words}, "b")
    assert YAML(typ="safe", pure=True).load(grown)["services"]["b"]["command"] == words
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    assert yaml.load(grown)["services"]["b"]["command"] == words


def test_entries_of_one_agent() -> None:
    text = "version: '1'\nagents:\n  one:\n    use: codex\n  two: {use: codex}\n"
    place = ("agents", "one", "endpoints")
    grown = append(append(text, place, "npm"), place, "pypi")
    assert grown == text.replace("codex\n  two", "codex\n    endpoints:\n      - npm\n      - pypi\n  two")
    assert "two: {use: codex, ports: [1]}" in append(text, ("agents", "two", "ports"), 1)


@pytest.mark.parametrize(
    ("section", "there", "same"),
    [
        ("endpoints", "API.example.com.", {"host": "api.example.com"}),
        ("endpoints", "a.example:8443", {"host": "a.example", "port": 8443}),
        ("mounts", ".:/workspace", {"source": ".", "target": "/workspace/", "mode": "rw"}),
        ("ports", '"3000"', 3000),
        ("packages", "jq", "jq"),
    ],
)
def test_what_is_there_in_other_words_is_left_alone(section: str, there: str, same: Any) -> None:
    text = f"version: '1'\n{section}: [{there}]\n"
    outcome = add_to(text, [Addition((section,), same)], FILE)
    assert (outcome.text, outcome.added) == (text, ())
    assert [(entry.path, entry.line) for entry in outcome.present] == [((section, 0), 2)]


def test_a_volume_needs_one_declaration_only() -> None:
    text = "version: '1'\nvolumes: {data: {driver: local}}\n"
    assert add_to(text, [Addition(("volumes",), {}, "data", declares=True)], FILE).text == text


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("version: '1'\nx-e: &e [npm]\nendpoints: *e\n", "endpoints", "nothing can be added here"),
        ("version: '1'\nx-e: &e\n  endpoints: [npm]\n<<: *e\n", "endpoints", "nothing can be added here"),
        ("version: '1'\nendpoints: &e [npm]\nx-e: *e\n", "endpoints", "nothing can be added here"),
        ("version: '1'\nendpoints: npm\n", "endpoints", "nothing can be added here"),
        ("version: '1'\nendpoints: ~\n", "endpoints", "nothing can be added here"),
        ("version: '1'\nx-e: &e {endpoints: 5}\n<<: *e\n", "endpoints", "nothing can be added here"),
        ("version: '1'\n? endpoints\n", "endpoints", "nothing can be added here"),
        ("- 1\n", "endpoints", "must be a mapping"),
        ("version: '1\n", "endpoints", "never closed"),
    ],
)
def test_where_nothing_can_be_added(text: str, place: str, message: str) -> None:
    with pytest.raises(SandboxfileError, match=message):
        append(text, (place,), "x.example")


def test_a_name_that_is_taken() -> None:
    text = "version: '1'\nsecrets:\n  github: {env: A}\n"
    with pytest.raises(SandboxfileError, match=r":3:3: secrets.github: is there already"):
        add_to(text, [Addition(("secrets",), {"env": "B"}, "github")], FILE)
    assert insert(text, ("secrets",), "other", {"env": "B"}) == text + "  other: {env: B}\n"


@pytest.mark.parametrize("agents", ["", "agents:\n  bar: {use: pi}\n", "agents:\n"])
def test_nothing_is_added_to_an_agent_that_is_not_there(agents: str) -> None:
    with pytest.raises(SandboxfileError) as caught:
        append(f'version: "1"\n{agents}', ("agents", "foo", "endpoints"), "a.com")
    [problem] = caught.value.diagnostics
    assert problem.message == "there is no agents.foo in the file"
    hint = "the keys of agents are bar" if "bar" in agents else "the file has no `agents`, or an empty one"
    assert problem.hint == hint
