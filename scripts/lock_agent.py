"""Write the lock file of an agent whose definition has `npm: {lock: ...}`, with this host's npm.

    python scripts/lock_agent.py templates/openclaw

npm only looks the packages up: nothing is installed, and nothing of them runs. What the engine does not read is left
out, above all the addresses, which are those of one registry.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from engine.agents.definition import read_definition
from engine.agents.lock import LOCK_VERSION

KEPT = ("name", "version", "integrity", "bin", "os", "cpu", "libc", "optional", "dev", "devOptional", "inBundle")
OPTIONS = ["--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", "--omit-lockfile-registry-resolved"]


def main(folder: Path) -> None:
    definition = read_definition(folder / "agent.yaml")
    for step in definition.install.steps:
        if step.npm is not None and step.npm.lock is not None:
            lock = _look_up(step.npm.package, definition.install.version, optional=step.npm.optional)
            (folder / step.npm.lock).write_text(json.dumps(lock, indent=1) + "\n")


def _look_up(package: str, version: str, *, optional: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "package.json").write_text(json.dumps({"private": True, "dependencies": {package: version}}))
        omitted = [] if optional else ["--omit=optional"]
        subprocess.run(["npm", "install", *OPTIONS, *omitted], cwd=place, check=True)
        lock = json.loads((place / "package-lock.json").read_text())
    assert lock["lockfileVersion"] == LOCK_VERSION
    packages = {
        where: {key: entry[key] for key in KEPT if key in entry} if where else {"dependencies": entry["dependencies"]}
        for where, entry in lock["packages"].items()
        if optional or not entry.get("optional")
    }
    return {"lockfileVersion": LOCK_VERSION, "packages": packages}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
