"""Mistakes and habits of the file's language that real projects have."""

from __future__ import annotations

import pytest
from cli_world import CommandLine

HEAD = 'version: "1"\nagent: {command: [bash]}\n'
USES_ENV = HEAD + 'services: {a: {image: "localhost/debian:13", environment: {A: "${A}"}}}\n'


def test_a_layer_denies_what_a_lower_one_allows(sandbox: CommandLine) -> None:
    sandbox.file(f"{HEAD}endpoints: [example.com, api.example.org, other.example.net]\n")
    strict = sandbox.file(
        'endpoints: [{host: example.com, deny: true}, {host: "*.example.org", deny: true}]\n', "s.yaml"
    )
    ran = sandbox("config", "-f", str(strict))
    assert ran.code == 0 and "api.example.org" not in ran.out and "other.example.net" in ran.out
    assert ran.out.count("host: example.com") == 1
    partly = sandbox.file("endpoints: [{host: example.com, deny: true, paths: [/admin]}]\n", "p.yaml")
    ran = sandbox("config", "-f", str(partly))
    assert ran.code == 0 and ran.out.count("example.com") == 2, "what is denied in part stands beside what is allowed"


def test_a_layer_allows_what_a_lower_one_denies_and_one_file_does_not(sandbox: CommandLine) -> None:
    sandbox.file(f"{HEAD}endpoints: [{{host: example.com, deny: true}}]\n")
    free = sandbox.file("endpoints: [example.com]\n", "f.yaml")
    ran = sandbox("config", "-f", str(free))
    assert ran.code == 0 and "deny" not in ran.out
    sandbox.file(f"{HEAD}endpoints: [{{host: example.com, deny: true}}, example.com]\n")
    assert "can never match" in sandbox("validate").err


def test_a_directory_of_the_name_env_is_no_variables_file(sandbox: CommandLine) -> None:
    (sandbox.project / ".env/bin").mkdir(parents=True)
    sandbox.file(USES_ENV)
    ran = sandbox("validate", A="1")
    assert ran.code == 0 and ran.err == ""
    assert sandbox("validate").code == 0


def test_a_dollar_that_empties_a_value_of_env_is_told_with_its_line(sandbox: CommandLine) -> None:
    (sandbox.project / ".env").write_text("B=x\nA=abc$def\nUNUSED=a$b\n")
    sandbox.file(USES_ENV)
    said = sandbox("validate")
    assert ".env:2:1: warning: A: the variable def is not set" in said.err + said.out
    assert "UNUSED" not in said.err + said.out and "abc" not in said.err + said.out
    (sandbox.project / ".env").write_text("A='abc$def'\n")
    assert "warning" not in sandbox("validate").err


def test_the_local_layer_has_either_ending(sandbox: CommandLine) -> None:
    sandbox.file(f"{HEAD}machine: {{memory: 2GiB}}\n")
    local = sandbox.file("machine: {memory: 1GiB}\n", "Sandboxfile.local.yml")
    assert "Sandboxfile.local.yml:1" in sandbox("config", "--origins").out
    local.with_suffix(".yaml").write_text("machine: {cpus: 1}\n")
    ran = sandbox("validate")
    assert ran.code == 2 and "only one of the two can be the local layer" in ran.err


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ('version: "1"\nagent:\u00a0{command: [bash]}\n', "2:7", "a no-break space (U+00A0)"),
        ('version:"1"\nagent:{command: [bash]}\n', "1:8", "a space is missing after `version:`"),
        (HEAD + "mounts:\n- .:/workspace\n - ./x:/y\n", "5:2", "goes on in line 5, which is indented by more"),
        (HEAD + 'mounts: ["${WHERE:/w"]\n', "3:11", "${WHERE is followed by"),
        ('version: "1"\nagent: {command: [bash], env: {A: "${B"}}\n', "2:36", "${B has no closing brace"),
        ('version: "1"\nagent: {command: [bash], env: {A: 0x1F}}\n', "2:35", "would be read as the number 31"),
    ],
)
def test_a_mistake_is_named_at_its_place(sandbox: CommandLine, text: str, place: str, said: str) -> None:
    sandbox.file(text)
    ran = sandbox("validate")
    assert ran.code == 2 and f"Sandboxfile.yaml:{place}: " in ran.err and said in ran.err, ran.err
