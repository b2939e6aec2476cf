"""Text that is no YAML, as people write it: the message names the slip, and points at its line."""

from __future__ import annotations

import pytest

from sandboxfile.reading.slips import _SECTIONS
from sandboxfile.reading.source import read_source
from sandboxfile.sections.model import Sandbox

HEAD = 'version: "1"\n'
QUOTE = "inside brackets, a value with a variable must be quoted"
ENDS = "the quoted text ends before this"
BEHIND = "remove what follows, or quote it all"


def slip(text: str) -> tuple[str, str, str]:
    """(line:column, message, hint) of the only problem."""
    [problem] = read_source(text, "f.yaml").problems
    assert problem.position is not None
    return f"{problem.position.line}:{problem.position.column}", problem.message, problem.hint or ""


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("machine: {memory: ${MEM:-4GiB}}\n", "2:19", 'write "${MEM:-4GiB}"'),
        ("machine: {memory: ${MEM}}\n", "2:19", 'write "${MEM}"'),
        ("machine: {memory: ${MEM}, cpus: 2}\n", "2:19", 'write "${MEM}"'),
        ("mounts: [${HOME}/x:/x]\n", "2:10", 'write "${HOME}/x:/x"'),
        ("mounts: [.:/w, ~/${A}/${B}:/x]\n", "2:16", 'write "~/${A}/${B}:/x"'),
        ("agent:\n  env: {\n    A: x${B:-a b},\n  }\n", "4:8", 'write "x${B:-a b}"'),
        ("agent: {env: {A: ${B\n", "2:18", 'write "${NAME}"'),
    ],
)
def test_a_variable_in_brackets(text: str, place: str, hint: str) -> None:
    assert slip(HEAD + text) == (place, QUOTE, hint)


@pytest.mark.parametrize(
    ("text", "place", "key"),
    [
        (HEAD + "name:shop\nmounts:\n  - .:/w\n", "2:5", "name"),
        (HEAD + "name:shop\n", "2:5", "name"),
        (HEAD + '"name":shop\nmounts: []\n', "2:7", "name"),
        (HEAD + "machine:\n  cpus:2\n  memory: 4GiB\n", "3:7", "cpus"),
        (HEAD + "machine:\n  memory: 4GiB\n  cpus:2\n", "4:7", "cpus"),
        (HEAD + "machine:\n  memory: 4GiB\n  cpus:2\n  disk: 3GiB\n", "4:7", "cpus"),
        (HEAD + "agent:\n  env:\n    A:1\n    B:2\n\n    # three\n    C: 3\n", "4:6", "A"),
        (HEAD + "endpoints:\n  - host:a.com\n    methods: [GET]\n", "3:9", "host"),
        (HEAD + "endpoints:\n  - host: a.com\n    port:443\n    deny: true\n", "4:9", "port"),
        (HEAD + "services:\n  web:\n    image:nginx\n    ports:\n      - '80:80'\n", "4:10", "image"),
        ('version:"1"\nname: x\n', "1:8", "version"),
        ('version:"1"\n', "1:8", "version"),
        (HEAD + "name :shop\nmounts: []\n", "2:6", "name"),
        ("version:1\nname:x\n", "1:8", "version"),
        ('# first\nname: x\nversion:"1"\nmounts:\n  - a\n', "3:8", "version"),
        ('version:"1"\nagent:{command: [bash]}\n', "1:8", "version"),
    ],
)
def test_a_key_that_its_value_follows_without_a_space(text: str, place: str, key: str) -> None:
    assert slip(text) == (place, f"a space is missing after `{key}:`", "")


@pytest.mark.parametrize(
    ("text", "place", "word", "hint"),
    [
        (HEAD + "name shop\nmounts:\n  - .:/w\n", "2:5", "name", "write name: shop"),
        (HEAD + "name = shop\nmounts:\n  - .:/w\n", "2:5", "name", "write name: shop"),
        (HEAD + "name=shop\n", "2:5", "name", "write name: shop"),
        (HEAD + "machine:\n  cpus 2\n  memory: 4GiB\n", "3:7", "cpus", "write cpus: 2"),
        (HEAD + "machine:\n  cpus\n  memory: 4GiB\n", "3:7", "cpus", "write cpus:"),
        (HEAD + "machine\n  memory: 4GiB\n", "2:8", "machine", "write machine:"),
        (HEAD + "packages:\n  - jq\nmounts\n  - .:/w\n", "4:7", "mounts", "write mounts:"),
        (HEAD + "packages: [jq]\nmounts\n", "3:7", "mounts", "write mounts:"),
        ('version "1"\nname: x\n', "1:8", "version", 'write version: "1"'),
    ],
)
def test_a_key_without_a_colon(text: str, place: str, word: str, hint: str) -> None:
    assert slip(text) == (place, f"a colon is missing after '{word}'", hint)


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("setup:\n  - echo a\n  make all\n", "4:3", "write - make all; if it goes on"),
        ("setup:\n- echo a\nmake all\n", "4:1", "write - make all; if it goes on"),
        (
            "setup:\n  - a &&\nmake all\nname: x\n",
            "4:1",
            "write - make all; if it goes on with the entry above, indent",
        ),
        ("packages:\n  - jq\n  ripgrep\n", "4:3", "write - ripgrep; if it goes on"),
        ("packages:\n  - jq\nripgrep\n", "4:1", "write - ripgrep; if it goes on"),
    ],
)
def test_a_second_line_in_a_list(text: str, place: str, hint: str) -> None:
    where, message, said = slip(HEAD + text)
    assert (where, message) == (place, "this line is neither a key nor an entry of the list")
    assert said.startswith(hint)
    assert said.endswith("; if it goes on with the entry above, indent it further")


def test_a_line_that_is_nothing() -> None:
    assert slip(HEAD + "*** notes ***\nname: x\n")[0] == "2:1"
    assert slip(HEAD + "name;shop\nname: x\n")[:2] == ("2:1", "this line is no key with a value")
    assert slip(HEAD + "(notes)\nname: x\n")[:2] == ("2:1", "this line is no key with a value")


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("mounts: [\n", "2:9", "this bracket is never closed", "close it with ]"),
        ("mounts: [", "2:9", "this bracket is never closed", "close it with ]"),
        ("machine: {\n", "2:10", "this bracket is never closed", "close it with }"),
        ("mounts: [{a: b}\n", "2:9", "this bracket is never closed", "close it with ]"),
        ("mounts: [{a: b\n", "2:10", "this bracket is never closed", "close it with }"),
        ("mounts: [a, b\nname: x\n", "2:9", "this bracket is never closed", "write ] before line 3"),
        ("mounts: [a,\nname: x\nports: [80]\n", "2:9", "this bracket is never closed", "write ] before line 3"),
        ("mounts: [[a]\nname: x\n", "2:9", "this bracket is never closed", "write ] before line 3"),
        ("machine: {cpus: 2\nname: x\n", "2:10", "this bracket is never closed", "write } before line 3"),
        ("mounts: [a, , b]\n", "2:13", "there is no value before this comma", "remove one comma"),
        ("mounts: [a,, b]\n", "2:12", "there is no value before this comma", "remove one comma"),
        ("mounts: [, b]\n", "2:10", "there is no value before this comma", "remove it"),
        ("machine: {cpus: 2, , memory: 3}\n", "2:20", "there is no value before this comma", "remove one comma"),
        ("mounts: [a]]\n", "2:12", "this ] closes no bracket", "remove it"),
        ("machine: {cpus: 2}}\n", "2:19", "this } closes no bracket", "remove it"),
        ("mounts: ]\n", "2:9", "this ] closes no bracket", "remove it"),
        ("]\nname: x\n", "2:1", "this ] closes no bracket", "remove it"),
        ("mounts: [a],\n", "2:12", "a comma outside of brackets", "remove it"),
        ("mounts: [a}\n", "2:11", "the [ of line 2 is not closed by a }", "write ]"),
        ("machine: {cpus: 2, ]\n", "2:20", "the { of line 2 is not closed by a ]", "write }"),
        ("mounts: [{a: b]\n", "2:15", "the { of line 2 is not closed by a ]", "write }"),
        ("mounts: [- a]\n", "2:10", "inside brackets, entries have no dash", "write [a, b]"),
        ("mounts: [a, - b]\n", "2:13", "inside brackets, entries have no dash", "write [a, b]"),
        ('mounts: ["a" "b"]\n', "2:14", "the bracket of line 2 is not closed before this", "a comma is missing?"),
        ("machine: {cpus: 2 memory: 3}\n", "2:25", "the bracket of line 2 is not closed before this", "a comma is"),
    ],
)
def test_brackets(text: str, place: str, message: str, hint: str) -> None:
    where, said, way = slip(HEAD + text)
    assert (where, said) == (place, message)
    assert way.startswith(hint)


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ('version: ""1""\n', "1:12", ENDS, 'quote it once; a " inside is written \\"'),
        ('version: "1"x\n', "1:13", ENDS, 'quote it once; a " inside is written \\"'),
        (
            HEAD + "name: 'it's'\n",
            "2:11",
            "the quoted text ends before this",
            "quote it once; a ' inside is written ''",
        ),
        (
            HEAD + "mounts: [a, b] c\n",
            "2:16",
            "the bracket is closed before this",
            "remove what follows, or quote it all",
        ),
        (
            HEAD + 'ports:\n  - "3000:3000\n  - "4000:4000"\n',
            "3:5",
            "this quote is closed only in line 4",
            "close it in its own line",
        ),
    ],
)
def test_what_follows_a_value(text: str, place: str, message: str, hint: str) -> None:
    assert slip(text) == (place, message, hint)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("name: foo\t# comment\n", "foo"),
        ("name: foo \t \n", "foo"),
        ("name:\tfoo\n", "foo"),
        ("name: \t foo\n", "foo"),
        ("name:\t'foo'\t# x\n", "foo"),
        ("name: a\tb\n", "a\tb"),
        ("name: a\t\n  b\n", "a b"),
        ("name\t: foo\n", "foo"),
        ("name:\t[a,\tb]\t\n", ["a", "b"]),
        ("name:\t# x\n  - a\t# y\n\t\n  - b\n", ["a", "b"]),
        ("\t# x\n\t\nname: a\n", "a"),
        ("name: |\n  a\tb\n  \tc\t\n", "a\tb\n\tc\t\n"),
        ("name:\t|\n  a\n", "a\n"),
    ],
)
def test_tabs_separate(text: str, value: object) -> None:
    source = read_source(text, "f.yaml")
    assert source.problems == []
    assert source.data == {"name": value}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("mounts:\n\t- a\n", "2:1", "a tab cannot indent YAML"),
        ("machine:\n  \tcpus: 2\n", "2:3", "a tab cannot indent YAML"),
        ("machine:\n  cpus: 2\n\tmemory: 3GiB\n", "3:1", "a tab cannot indent YAML"),
        ("mounts:\n  -\ta:/b\n", "2:4", "a tab where a space must be"),
        ("mounts:\n  - -\ta:/b\n", "2:6", "a tab where a space must be"),
    ],
)
def test_tabs_do_not_indent(text: str, place: str, message: str) -> None:
    assert slip(text) == (place, message, "use spaces")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["a:" + "\t" * 900_000 + "b", "a: b" + "\t" * 900_000, "- \t" * 300_000, "a:\n" + "b\n" * 400_000 + "c: d"]
)
def test_long_runs_take_no_time(text: str) -> None:
    read_source(text, "f.yaml")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"%YAML 1.1\n---\n{HEAD}", "1:1"),
        (f"# x\n\n%YAML 1.1\n# y\n---\n{HEAD}", "3:1"),
        (f"%YAML 1.2\n---\n{HEAD}...\n%YAML 1.1\n---\n{HEAD}", "5:1"),
    ],
)
def test_another_version_of_yaml(text: str, place: str) -> None:
    assert slip(text) == (place, "only YAML 1.2 is read here", "remove the %YAML line")


def test_the_sections_are_all_known() -> None:
    assert set(_SECTIONS) == {field.alias or name for name, field in Sandbox.model_fields.items()}
