"""The command line of a coverage-guided search, for fuzz_gateway.py and fuzz_guest.py: they differ in their targets.

Needs the extra `fuzz` (atheris). A search ends with the first input that raises, takes longer than TIMEOUT_S or makes
the process larger than MEMORY_MB; the input is kept beside this file.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import atheris
from target import HERE, LONGEST_KEPT, Target, corpus_file

TIMEOUT_S = 30  # instrumented, on a busy machine
MEMORY_MB = 1024
LONGEST = 4096
KEPT, KEPT_BYTES = 40, 15_000  # inputs of a target, and the size of the file with them


def search(name: str, target: Target, seconds: int, corpus: Path) -> None:
    """In this process, which ends with it."""
    for index, seed in enumerate([*target.seeds, *target.kept(name)]):
        (corpus / f"seed-{index}").write_bytes(seed)
    words = corpus.with_name("words")
    escaped = ["".join(f"\\x{byte:02x}" for byte in word) for word in target.words or (b"\0\0",)]
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    flags = {
        "max_total_time": seconds,
        "timeout": TIMEOUT_S,
        "rss_limit_mb": MEMORY_MB,
        "max_len": LONGEST,
        "dict": words,
        "artifact_prefix": f"{HERE}/{name}-",
        "print_final_stats": 1,
    }
    atheris.Setup([sys.argv[0], *(f"-{flag}={value}" for flag, value in flags.items()), str(corpus)], target.run)
    atheris.Fuzz()


def keep(name: str, corpus: Path) -> None:
    """Some of the inputs, of all sizes: each of them reached something that no other did when it was found."""
    found = {file.read_bytes() for file in corpus.iterdir()}
    short = sorted((each for each in found if each and len(each) <= LONGEST_KEPT), key=lambda each: (len(each), each))
    step = max(1, len(short) // KEPT)
    while len(text := _lines(short[step - 1 :: step])) > KEPT_BYTES:
        step += 1
    corpus_file(name).parent.mkdir(exist_ok=True)
    corpus_file(name).write_text(text)


def _lines(inputs: list[bytes]) -> str:
    return "".join(base64.b64encode(each).decode() + "\n" for each in inputs)


def main(targets: Mapping[str, Target], script: str, about: str | None) -> int:
    """What `script` does, whose description is `about`; returns its exit code."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--again", type=Path, help="an input to try again, instead of a search")
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)  # of the search in this process
    parser.add_argument("targets", nargs="*", help=", ".join(targets))
    options = parser.parse_args()
    names = options.targets or list(targets)
    if options.again or options.corpus:
        for name in names:
            if options.again:
                targets[name].run(options.again.read_bytes())
            else:
                search(name, targets[name], options.seconds, options.corpus)
        return 0
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="sandbox-fuzz-") as scratch:
            corpus = Path(scratch, "corpus")
            corpus.mkdir()
            again = [sys.executable, script, "--seconds", str(options.seconds), "--corpus", str(corpus), name]
            if subprocess.run(again).returncode:
                failed.append(name)
            if options.keep:
                keep(name, corpus)
    print(f"found something: {', '.join(failed)}" if failed else "nothing was found")
    return 1 if failed else 0
