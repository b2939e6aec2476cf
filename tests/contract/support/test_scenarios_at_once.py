"""Two scenarios run at once, but never two of one file, and never two that want the same port."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

SCENARIOS = Path(__file__).parents[2] / "e2e"
# Each says where it ran.
TEST = """
import os, pytest

@pytest.mark.parametrize("number", range(6))
def test_it(number):
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(os.environ["PYTEST_XDIST_WORKER"] + " " + os.path.basename(__file__) + "\\n")
"""


def test_the_tests_of_a_file_and_of_a_port_have_one_worker(tmp_path: Path) -> None:
    shutil.copy(SCENARIOS / "conftest.py", tmp_path)
    files = ["test_quickstart.py", "test_confinement.py", "test_cpu_weight.py", "test_other.py", "test_another.py"]
    for file in files:
        (tmp_path / file).write_text(TEST)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SCENARIOS), *sys.path]),
        "SEEN": str(tmp_path / "seen"),
        "SANDBOX_TEST_ALL": "1",
    }
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile", str(tmp_path)]

    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    workers = defaultdict(set)
    for line in (tmp_path / "seen").read_text().splitlines():
        worker, file = line.split()
        workers[file].add(worker)
    assert sorted(workers) == sorted(files)
    assert all(len(where) == 1 for where in workers.values()), workers
    assert len(set.union(*(workers[file] for file in files[:3]))) == 1, workers
