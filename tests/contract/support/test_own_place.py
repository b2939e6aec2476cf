"""What chaos and the soak look at: processes, files and words. A look that sees nothing would find nothing wrong."""

from __future__ import annotations

import runpy
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import Place, Ran, Size, Wrong, held_by, place


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Place]:
    with place("own") as base:
        (tmp_path / "cache").mkdir()
        yield Place(base, str(tmp_path / "cache"))


def test_each_thing_that_is_left_is_seen(own: Place) -> None:
    assert own.left() == []
    with subprocess.Popen(["sleep", "60"], env=own.environment) as process:
        deadline = time.monotonic() + 30
        while not own.left() and time.monotonic() < deadline:  # for a moment a new program has no environment
            pass
        (line,) = own.left()
        assert line.startswith(f"process {process.pid}: sleep 60") and "1 threads, 3 descriptors" in line
        process.kill()
    assert own.left() == [] and held_by(process.pid) == ""
    for path in (own.runtime / "name", own.temporary / "sb-123", own.state / "instances/name"):
        path.mkdir(parents=True)
        assert own.left() == [str(path)]
        path.rmdir()
    (own.runtime / "README").touch()
    assert own.left() == []


def test_a_lost_file_and_a_changed_one_are_seen(own: Place) -> None:
    (own.project / "file").write_text("one")
    before = own.picture()
    own.compare(before)
    (own.project / "file").write_text("two")
    with pytest.raises(Wrong, match="file"):
        own.compare(before)
    (own.project / "file").unlink()
    with pytest.raises(Wrong, match="file"):
        own.compare(before)


@pytest.mark.parametrize(
    ("ran", "killed", "told"),
    [
        (Ran(0, "", ""), False, False),
        (Ran(1, "", "error: no room\n"), False, True),
        (Ran(-9, "", ""), True, False),
        (Ran(1, "", "no room\n"), False, None),
        (Ran(1, "", ""), True, None),
        (Ran(-9, "", ""), False, None),
        (Ran(0, "", "Traceback (most recent call last):\n"), False, None),
        (Ran(1, "", "error: no room\nTraceback (most recent call last):\n"), True, None),
    ],
)
def test_who_fails_must_say_why(own: Place, ran: Ran, killed: bool, told: bool | None) -> None:
    """`told` None: that is wrong."""
    if told is None:
        with pytest.raises(Wrong):
            own.judge(ran, killed=killed)
    else:
        assert own.judge(ran, killed=killed) is told


UNBEGUN = """\
Could not import runpy module
Traceback (most recent call last):
  File "<frozen importlib._bootstrap>", line 1176, in _find_and_load
  File "{file}", line 2, in <module>
OSError: [Errno 24] Too many open files: 'importlib'
"""


def test_a_python_that_could_not_begin_has_said_so(own: Place) -> None:
    """No line of ours had run. One that shows a file of ours had begun, and its traceback is ours."""
    assert own.judge(Ran(1, "", UNBEGUN.format(file=runpy.__file__)), killed=False) is True
    for wrong in (
        Ran(1, "", UNBEGUN.format(file=__file__)),
        Ran(1, "", UNBEGUN.format(file=runpy.__file__).replace("Could not import runpy module\n", "")),
        Ran(0, "", UNBEGUN.format(file=runpy.__file__)),
    ):
        with pytest.raises(Wrong, match="a traceback"):
            own.judge(wrong, killed=False)


def test_what_a_supervisor_has_logged_counts(own: Place) -> None:
    log = own.state / "failed/name/supervisor.log"
    log.parent.mkdir(parents=True)
    log.write_text("Traceback (most recent call last):\n")
    with pytest.raises(Wrong, match="a traceback"):
        own.judge(Ran(0, "", ""), killed=False)


def test_growth_is_measured(own: Place) -> None:
    before = Size.of(own.cache)
    (own.cache / "kind").mkdir()
    (own.cache / "kind/file").write_bytes(bytes(10_000))
    grown = Size.of(own.cache) - before
    assert grown.files == 1 and grown.size >= 10_000
    assert str(grown).endswith("bytes and +1 files") and str(grown).startswith("+")
