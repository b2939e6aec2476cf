"""A few rounds of chaos with a seed that is known; `python tests/e2e/chaos.py` runs as many as there is time for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("chaos.py")


@pytest.mark.timeout(3000)
@pytest.mark.skipif(sys.platform != "linux", reason="a small disk needs a mount namespace")
def test_nothing_is_left_and_nothing_is_lost_whatever_happens_to_a_process() -> None:
    if subprocess.run(["unshare", "--user", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no namespaces on this host")
    argv = [sys.executable, str(HARNESS), "--rounds", "8", "--seed", "13"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 rounds: " in done.stdout and done.stdout.endswith("s\n")
