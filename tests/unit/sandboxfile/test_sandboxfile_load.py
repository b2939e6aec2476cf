"""Files: finding, reading, places of later findings; and what loading may cost and touch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxfile import Inputs, SandboxfileError, find, load, parse
from sandboxfile.positions import render_path

SMALL = 'version: "1"\n'


def refusal(path: Path) -> str:
    with pytest.raises(SandboxfileError) as caught:
        load(path)
    return str(caught.value)


def test_load(tmp_path: Path) -> None:
    project = tmp_path / "My Project"
    project.mkdir()
    file = project / "Sandboxfile.yaml"
    file.write_text(SMALL)
    loaded = load(file)
    assert (loaded.path, loaded.project, loaded.sandbox.name) == (file, project, "my-project")
    assert loaded == load(file)


def test_a_relative_path_is_shown_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/Sandboxfile.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)
    assert refusal(Path("sub/Sandboxfile.yaml")).startswith("sub/Sandboxfile.yaml:1:10: version:")
    assert refusal(tmp_path / "sub/Sandboxfile.yaml").startswith("Sandboxfile.yaml:1:10: version:")
    loaded = parse(SMALL, Path("sub/Sandboxfile.yaml"))
    assert loaded.path == tmp_path / "sub/Sandboxfile.yaml"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "Sandboxfile.yaml")
    assert "this is a directory" in refusal(tmp_path)
    assert "cannot be read" in refusal(tmp_path / "a\0b")
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refusal(tmp_path / "fifo")
    (tmp_path / "device").symlink_to("/dev/zero")
    assert "it is a link that leads out of the project, to /dev/zero" in refusal(tmp_path / "device")
    over = Inputs(files=(tmp_path / "device",))
    (tmp_path / "small.yaml").write_text(SMALL)
    with pytest.raises(SandboxfileError, match="not a regular file"):
        load(tmp_path / "small.yaml", over)
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read" in refusal(tmp_path / "loop")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    assert "larger than 1024 KiB" in refusal(tmp_path / "huge")


def test_find_goes_upwards_to_the_nearest(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (tmp_path / "Sandboxfile.yaml").write_text(SMALL)
    assert find(deep) == tmp_path / "Sandboxfile.yaml"
    (tmp_path / "a" / "Sandboxfile.yml").write_text(SMALL)
    assert find(deep) == tmp_path / "a" / "Sandboxfile.yml"
    (deep / "Sandboxfile.yaml").mkdir()
    assert find(deep) == deep / "Sandboxfile.yaml", "whoever made it did not mean the one above; reading it is an error"


def test_find_nothing(tmp_path: Path) -> None:
    assert find(tmp_path) is None


def test_find_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Sandboxfile.yaml").write_text(SMALL)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert find(Path()) == tmp_path / "Sandboxfile.yaml"


def test_later_findings_have_the_same_places() -> None:
    loaded = parse(SMALL + "mounts:\n  - {source: ./gone, target: /w}\n  - .:/x\n", Path("Sandboxfile.yaml"))
    assert loaded.diagnostic(("mounts", 0, "source"), "there is no such directory", "create it").render() == (
        "Sandboxfile.yaml:3:14: mounts[0].source: there is no such directory\n"
        "    - {source: ./gone, target: /w}\n"
        "               ^\n"
        "  hint: create it"
    )
    short = loaded.diagnostic(("mounts", 1, "source"), "message")
    assert short.position == (4, 5)
    absent = loaded.diagnostic(("machine", "memory"), "more than the host has")
    assert absent.position == (1, 1)


def test_references_of_a_section_wait_until_it_is_right() -> None:
    with pytest.raises(SandboxfileError) as caught:
        parse(SMALL + "mounts: [.:/w, .:/w, {source: .}]\npackages: [jq, jq]\n", Path("Sandboxfile.yaml"))
    assert [found.path for found in caught.value.diagnostics] == [("mounts", 2, "target"), ("packages", 1)]


def _modules_after(code: str) -> set[str]:
    """What a fresh interpreter has imported after `code`; waits up to 30 seconds."""
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    return set(done.stdout.split())


def test_imports_stay_light() -> None:
    modules = _modules_after("import sandboxfile")
    assert not modules & {
        "compose_spec",
        "compose_spec.compose_spec",
        "jsonschema",
        "networkx",
        "click",
        "engine",
        "vmm",
    }


def test_the_compose_models_are_loaded_for_messages_only() -> None:
    parse_it = "from pathlib import Path\nimport sandboxfile\nsandboxfile.parse({!r}, Path('/x/Sandboxfile.yaml'))"
    assert not any(name.startswith("compose_spec") for name in _modules_after(parse_it.format(SMALL)))
    modules = _modules_after(parse_it.format(SMALL + "services: {a: {image: b}}"))
    assert "compose_spec.compose_spec" in modules
    assert "compose_spec.models" not in modules


def test_the_compose_library_can_be_imported_before_and_after() -> None:
    check = "from sandboxfile.compose.judge import check_compose\n"
    check += "assert check_compose({'services': {'a': {'image': 'b'}}}) == []"
    assert "compose_spec.models" in _modules_after(f"import compose_spec\n{check}")
    assert "compose_spec.models" in _modules_after(
        f"{check}\nimport compose_spec\ncompose_spec.PyCompose.from_json('{{\"services\": {{}}}}')"
    )


MANY = """version: "1"
machine: {cpu: 4}
mounts: [.:/w, ./b:/w]
endpoints: [{host: a.com, secret: tokn}]
services:
  web: {image: a, depends_on: [bd]}
"""


def _messages(text: str) -> list[str]:
    with pytest.raises(SandboxfileError) as caught:
        parse(text, Path("/p/Sandboxfile.yaml"))
    return [f"{render_path(problem.path)}: {problem.message}" for problem in caught.value.diagnostics]


def test_what_is_wrong_between_sections_is_told_with_what_is_wrong_in_others() -> None:
    assert _messages(MANY) == [
        "machine.cpu: unknown key",
        "mounts[1].target: is mounted on '/w', as mounts[0].target is",
        "endpoints[0].secret: the secret 'tokn' is not declared",
        "services.web.depends_on[0]: there is no service 'bd'",
    ]
    assert len(_messages(MANY.removeprefix('version: "1"\n'))) == 5


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("secrets: {tokn: {evn: X}}\nendpoints: [{host: a.com, secret: tokn}]", "secrets.tokn.evn: unknown key"),
        ("secret: {tokn: {env: X}}\nendpoints: [{host: a.com, secret: tokn}]", "secret: unknown key"),
        ("volumes: [a]\nservices: {web: {image: a, volumes: ['a:/x']}}", "volumes: must be a mapping, got a list"),
        (
            "profiles: 1\nservices: {a: {image: a, depends_on: [b]}, b: {image: b, profiles: [x]}}",
            "profiles: must be a",
        ),
    ],
)
def test_nothing_is_told_that_only_follows(text: str, only: str) -> None:
    [message] = _messages(f'version: "1"\n{text}\n')
    assert message.startswith(only)


def test_a_machine_has_room_for_few_mounts() -> None:
    mounts = ", ".join(f"./{n}:/m{n}" for n in range(9))
    assert _messages(f'version: "1"\nmounts: [{mounts}]\n') == ["mounts: must have at most 8 entries"]
