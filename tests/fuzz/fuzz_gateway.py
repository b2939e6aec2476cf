"""A coverage-guided search for bytes that the gateway reads otherwise than it must.

    make fuzz                                                  ten minutes for each target
    python tests/fuzz/fuzz_gateway.py --seconds 60 hello h2
    python tests/fuzz/fuzz_gateway.py --again crash-0123... h2  one input again

Needs the extra `fuzz` (atheris). The targets and what they ask are in gateway_targets.py. A search ends with the first
input that raises, takes longer than TIMEOUT_S or makes the process larger than MEMORY_MB; the input is kept beside this
file. With --keep, some of what a search has found goes into corpus/, which the fast tests replay.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "support")]

with atheris.instrument_imports(include=["engine.gateway", "h2", "hpack", "hyperframe", "h11"]):
    from gateway_targets import LONGEST_KEPT, TARGETS

TIMEOUT_S = 30  # instrumented, on a busy machine
MEMORY_MB = 1024
LONGEST = 4096
KEPT = 40  # inputs of a target


def search(name: str, seconds: int, corpus: Path) -> None:
    """In this process, which ends with it."""
    target = TARGETS[name]
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
    short = sorted((each for each in found if len(each) <= LONGEST_KEPT), key=lambda each: (len(each), each))
    step = max(1, len(short) // KEPT)
    kept = HERE / "corpus" / f"{name}.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("".join(base64.b64encode(each).decode() + "\n" for each in short[step - 1 :: step] if each))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--again", type=Path, help="an input to try again, instead of a search")
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)  # of the search in this process
    parser.add_argument("targets", nargs="*", help=", ".join(TARGETS))
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if options.again or options.corpus:
        for name in names:
            if options.again:
                TARGETS[name].run(options.again.read_bytes())
            else:
                search(name, options.seconds, options.corpus)
        return 0
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="sandbox-fuzz-") as scratch:
            corpus = Path(scratch, "corpus")
            corpus.mkdir()
            again = [sys.executable, __file__, "--seconds", str(options.seconds), "--corpus", str(corpus), name]
            if subprocess.run(again).returncode:
                failed.append(name)
            if options.keep:
                keep(name, corpus)
    print(f"found something: {', '.join(failed)}" if failed else "nothing was found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
