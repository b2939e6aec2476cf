"""A file that was made to cost much is refused in little time and memory: each in a process with limits of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEMORY = 512 * 1024**2  # of address space: an interpreter with the loader takes 200 MiB of it
PROCESSOR_S = 20  # a busy machine included; unbounded, each of these takes minutes
MIB = 1024**2

CHILD = f"""
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_CPU, ({PROCESSOR_S}, {PROCESSOR_S}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
from sandboxfile import Inputs, SandboxfileError, parse
text, environment, assignments, local = eval(sys.stdin.read())
path = Path("/nowhere/Sandboxfile.yaml")
texts = {{path.with_name("Sandboxfile.local.yaml"): local}} if local else {{}}
try:
    parse(text, path, Inputs((), assignments, environment, texts))
    print("accepted")
except SandboxfileError as error:
    print(str(error)[:100_000])
"""
LAUGHS = (
    "a0: &a0 [" + "x, " * 9 + "x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}*a{n - 1}]\n" for n in range(1, 12))
)
MERGES = "m0: &m0 {a: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}\n" for n in range(1, 14))
HEAD = 'version: "1"\n'

CASES: dict[str, tuple[str, str]] = {  # what the file says -> what it is told
    "billion laughs": (f"(x + {LAUGHS!r}, {{}}, (), '')", "the aliases expand to more than"),
    "billion laughs of merge keys": (f"(x + {MERGES!r}, {{}}, (), '')", "the aliases expand to more than"),
    "long aliases": ("(x + 'a: &a ' + 'y' * 100_000 + '\\nb: [' + '*a, ' * 1000 + ']', {}, (), '')", "expand to more"),
    "a line of ten megabytes": (f"(x + 'name: ' + 'y' * {10 * MIB}, {{}}, (), '')", "the file is larger than 1024 KiB"),
    "a line of a megabyte": (f"('name: ' + 'y' * ({MIB} - 20), {{}}, (), '')", "must be 1 to 40 lower-case letters"),
    "a number of a megabyte": (f"('name: ' + '1' * ({MIB} - 20), {{}}, (), '')", "is too large"),
    "brackets": (f"('[' * ({MIB} - 20), {{}}, (), '')", "nested deeper than 40 levels"),
    "closed brackets": ("('a: ' + '[' * 100_000 + ']' * 100_000, {}, (), '')", "nested deeper than 40 levels"),
    "deep blocks": ("(''.join(' ' * n + 'a:\\n' for n in range(1300)), {}, (), '')", "nested deeper than 40 levels"),
    "deep lists": ("('- ' * 500_000, {}, (), '')", "nested deeper than 40 levels"),
    "a hundred thousand keys": ("(''.join(f'k{n}: 1\\n' for n in range(100_000)), {}, (), '')", "than 20000 values"),
    "ten thousand unknown keys": ("(x + ''.join(f'k{n}: 1\\n' for n in range(9_000)), {}, (), '')", "and 8950 more"),
    "ten thousand services": (
        "(x + 'services:\\n' + ''.join(f'  s{n}: {chr(123)}image: a{chr(125)}\\n' for n in range(9_900)), {}, (), '')",
        "more than 20000 values",
    ),
    "ten thousand wrong ports": (
        "(x + 'services: {a: {image: a, ports: [' + 'bad, ' * 9_000 + ']}}', {}, (), '')", "and 8950 more"
    ),
    "ten thousand wrong variables": (
        "(x + 'services: {a: {image: a, environment: {' + ', '.join(f'K{n}: [1]' for n in range(6_000)) + '}}}',"
        " {}, (), '')",
        "and 5950 more",
    ),
    "ten thousand unknown services": (
        "(x + 'services: {' + ''.join(f's{n}: {{image: a}}, ' for n in range(199)) + 'a: {image: a, links: ['"
        " + ', '.join(f'ss{n}' for n in range(8_500)) + ']}}', {}, (), '')",
        "and 8450 more",
    ),
    "forty unknown keys in each of two hundred services": (
        "(x + 'services: {' + ''.join(f's{n}: {{image: a' + ''.join(f', k{m}: 1' for m in range(40)) + '}, '"
        " for n in range(190)) + '}', {}, (), '')",
        "and 7550 more",
    ),
    "a long image": ("(x + 'services: {a: {image: \"' + 'a_' * 400_000 + '\"}}', {}, (), '')", "is no image name"),
    "a long duration": (
        "(x + 'services: {a: {image: a, stop_grace_period: \"' + '1s' * 400_000 + 'x\"}}', {}, (), '')",
        "must be a duration",
    ),
    "many anchors": ("(x + ''.join(f'k{n}: &a{n} 1\\n' for n in range(9_000)), {}, (), '')", "unknown key"),
    "the same anchor": ("(x + ''.join(f'k{n}: &a 1\\n' for n in range(9_000)), {}, (), '')", "is already used"),
    "an exponent": ("(x + 'machine: {cpus: 1e999999999}', {}, (), '')", "is not a usable number"),
    "nested defaults": ("(x + 'name: \"' + '${A:-' * 50_000 + '}' * 50_000 + '\"', {}, (), '')", "nested deeper than"),
    "a long variable often": (
        "(x + 'agent: {command: sh, env: {X: \"' + '$A' * 20_000 + '\"}}', {'A': 'y' * 100_000}, (), '')",
        "the value becomes longer than 256 KiB",
    ),
    "a long variable in many values": (
        "(x + 'services: {a: {image: a, environment: [' + '\"$A\",' * 9_000 + ']}}', {'A': 'y' * 100_000}, (), '')",
        "the variables make the file larger than",
    ),
    "many dollars": ("(x + 'name: \"' + '$' * 500_001 + '\"', {}, (), '')", "no variable's name follows"),
    "many assignments": ("(x, {}, tuple(f'agent.env.X{n}=1' for n in range(400)), '')", "needs a command"),
    "two large layers": (
        "(x + 'endpoints: [' + ''.join(f'a{n}.b.c, ' for n in range(900)) + ']', {}, (), "
        "'endpoints: [' + ''.join(f'b{n}.b.c, ' for n in range(900)) + ']')",
        "must have at most 1000 entries",
    ),
    "a thousand rules": (
        "(x + 'endpoints: [' + ''.join('{host: a%d.b.c, deny: true}, a%d.b.c, ' % (n, n) for n in range(500)) + ']',"
        " {}, (), '')",
        "can never match",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_costs_little(case: str) -> None:
    expression, message = CASES[case]
    code = f"x = {HEAD!r}\n{CHILD}"
    done = subprocess.run([sys.executable, "-c", code], input=expression, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr[-2000:]
    assert message in done.stdout, done.stdout[:2000]
