"""A coverage-guided search for a file that the loader does not survive.

    make fuzz                                       ten minutes
    python tests/fuzz/fuzz_loader.py --seconds 60
    python tests/fuzz/fuzz_loader.py crash-0123...  one input again

Needs the extra `fuzz` (atheris). An input is a Sandboxfile; after a line `%%` follow a local layer, then assignments,
one a line, then variables of the environment. The search ends with the first input that raises anything but
SandboxfileError, takes longer than TIMEOUT_S, makes the process larger than MEMORY_MB, or whose resolved form loads
to another value; the input is kept beside this file.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sandboxfile", "ruamel.yaml"]):
    from sandboxfile import Inputs, SandboxfileError, parse
    from sandboxfile.names import SECTIONS
    from sandboxfile.sections.model import Sandbox
    from sandboxfile.writing.dump import origins, to_text

HERE = Path(__file__).parent
CORPUS = HERE.parent / "contract" / "sandboxfile"
FILE = Path("/nowhere/project/Sandboxfile.yaml")
LOCAL = FILE.with_name("Sandboxfile.local.yaml")
SEPARATOR = b"\n%%\n"
TIMEOUT_S = 20  # instrumented, on a busy machine; a file at our own limits takes 2 s there
MEMORY_MB = 1024
LONGEST = 16 * 1024  # larger ones only repeat themselves

SEEDS = [
    b'version: "1"\nmachine: {cpus: "$N"}\n%%\nmachine: {memory: ${MEM:-1GiB}}\n%%\nendpoints+=npm\n%%\nN=2',
    b'version: "1"\nagents: {a: {command: sh}, b: {use: codex, mounts: [.:/w]}}\n%%\nagents: {a: }\n%%\nname=x\n%%\n',
    b'version: "1"\nservices: {a: {image: a, environment: [A=$N]}}\n%%\nservices: {a: {build: .}}\n%%\n%%\nN=1',
    b'version: "1"\nx-a: &a {image: a}\nservices: {a: {<<: *a}, b: {<<: [*a, {command: $$x}]}}',
]


def load(data: bytes) -> None:
    """One input. Raises whatever is wrong with us."""
    text, local, assignments, variables = [*data.split(SEPARATOR, 3), b"", b"", b""][:4]
    environment = dict(line.partition("=")[::2] for line in variables.decode("utf-8", "replace").splitlines())
    lines = tuple(assignments.decode("utf-8", "replace").splitlines())[:20]
    texts = {LOCAL: local.decode("utf-8", "replace")} if local.strip() else {}
    try:
        loaded = parse(text, FILE, Inputs((), lines, environment, texts))
    except SandboxfileError as error:
        assert all(char.isprintable() or char == "\n" for char in str(error)), "a terminal could be steered by it"
        lines_of = {FILE.name: text, LOCAL.name: local}
        for found in error.diagnostics:
            assert found.message and found.render()
            if found.position and found.file in lines_of:
                last = len(re.split(rb"\r\n|\n|\r", lines_of[found.file]))
                assert 1 <= found.position.line <= last and found.position.column >= 1, found
        return
    for one in (loaded, *loaded.members):
        resolved = to_text(one.sandbox)
        again = parse(resolved, FILE.with_name("Other.yaml"))
        assert again.sandbox == one.sandbox, f"the resolved file is another one:\n{resolved}"
        list(origins(one.sandbox, one.document(), one.variables))


def words() -> list[str]:
    """What a mutation should try: our keys, Compose's, signs of YAML and of variables."""
    keys = {name for name in Sandbox.model_json_schema()["properties"]}
    for definition in Sandbox.model_json_schema()["$defs"].values():
        for part in (definition, *definition.get("anyOf", ())):
            keys.update(part.get("properties", {}))
    signs = ["<<: *a", "&a ", "*a", "!!str ", "|\n", ">-\n", "? ", "- ", ": ", "${A:-", "${A:?", "$A", "$$", "}", "~"]
    values = ["npm", "4GiB", "30m", ".:/w:ro", "3000:80", "*.a.b", "localhost", "image: a", "build: .", "include: "]
    return [*sorted(keys), *SECTIONS, *signs, *values, "\n%%\n"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("input", nargs="*", type=Path, help="inputs to try again, instead of a search")
    options = parser.parse_args()
    if options.input:
        for path in options.input:
            load(path.read_bytes())
        return
    with tempfile.TemporaryDirectory(prefix="sandbox-fuzz-") as scratch:
        corpus, dictionary = Path(scratch, "corpus"), Path(scratch, "words")
        corpus.mkdir()
        for index, seed in enumerate([*SEEDS, *(file.read_bytes() for file in sorted(CORPUS.glob("*/*.yaml")))]):
            (corpus / str(index)).write_bytes(seed[:LONGEST])
        escaped = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in words())
        dictionary.write_text("".join(f'"{word}"\n' for word in escaped))
        flags = {
            "max_total_time": options.seconds,
            "timeout": TIMEOUT_S,
            "rss_limit_mb": MEMORY_MB,
            "max_len": LONGEST,
            "dict": dictionary,
            "artifact_prefix": f"{HERE}/",
            "print_final_stats": 1,
        }
        arguments = [f"-{name}={value}" for name, value in flags.items()]
        atheris.Setup([sys.argv[0], *arguments, str(corpus)], load)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
