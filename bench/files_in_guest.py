"""Runs in the guest, as text on python3's standard input: small files in two directories, by turns.

Arguments: the two directories, how many files, how many runs. Prints a JSON object: directory -> list of seconds.
"""

import json
import shutil
import sys
import time
from pathlib import Path


def work(parent: str, files: int) -> float:
    """Seconds to make, list, read and remove `files` files of 1 KiB."""
    directory = Path(parent) / "bench-small-files"
    shutil.rmtree(directory, ignore_errors=True)
    began = time.perf_counter()
    directory.mkdir()
    for number in range(files):
        (directory / str(number)).write_bytes(bytes(1024))
    for path in directory.iterdir():
        path.stat()
        path.read_bytes()
    shutil.rmtree(directory)
    return time.perf_counter() - began


def main() -> None:
    directories, files, runs = sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])
    seconds: dict[str, list[float]] = {directory: [] for directory in directories}
    for _ in range(runs):
        for directory in directories:
            seconds[directory].append(work(directory, files))
    print(json.dumps(seconds))


main()
