"""All attempts of engine/attacks, in every state of a sandbox, by the command that users have.

They run in namespaces in which nothing goes unheard (engine/attacks/stage.py): as root's sandbox, or as that of an
ordinary user whom this host lets make namespaces.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.attacks.room import why_not

ALL_S = 3600.0


@pytest.mark.timeout(ALL_S + 60)
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_no_attempt_gets_out_in_any_state(isolated: None, tmp_path: Path) -> None:
    page = tmp_path / "attacks.md"
    argv = [sys.executable, "-m", "engine.cli.main", "doctor", "--attack", "--json", "--page", str(page)]
    ran = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=ALL_S, cwd=tmp_path)
    report = json.loads(ran.stdout)
    out = [
        f"{attempt['id']}, {state}: {result['why']}"
        for attempt in report["attempts"]
        for state, result in attempt["states"].items()
        if result["verdict"] == "out"
    ]
    assert not out, "\n".join(out)
    assert ran.returncode == 0 and report["skipped"] == {}, report["skipped"]
    assert len(report["attempts"]) > 450 and "| out |" not in page.read_text()
