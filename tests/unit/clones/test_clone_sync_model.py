"""Random edits on both sides against a simple model: both are equal afterwards, or there is a conflict and nothing
has changed; and nothing that one side alone has done is lost."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cloned import Cloned, run_in_process
from fake_guest import Answer, Asked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.lifecycle.syncing import InConflict
from vmm.channel.errors import GuestError

NAMES = ("a", "b", "d/a", "d/e/c", "x y")
# Lines by number, so that git's merge is what one expects of it: 0 is the text as it was.
State = dict[str, tuple[str, bool] | None]
Edit = tuple[str, str]  # a name, and what happens to it


def text(first: str = "1", last: str = "9") -> str:
    return "\n".join((first, *"2345678", last)) + "\n"


TEXTS = {"first": text(first="one"), "last": text(last="nine"), "both": text("one", "nine"), "other": "\0other"}
EDITS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from((*TEXTS, "gone", "run", "link"))), max_size=4)


@contextmanager
def a_clone() -> Iterator[Cloned]:
    place = Path(tempfile.mkdtemp(prefix="sync-model-"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            cloned = Cloned(place, patch)
            for name in NAMES[:4]:
                _write(cloned.host / name, text())
            cloned.clone()
            yield cloned
    finally:
        shutil.rmtree(place)


_clock = itertools.count(1_700_000_000)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.write_text(content)
    os.utime(path, (next(_clock),) * 2)  # two edits within one tick of the clock are another test's


def edit(root: Path, edits: list[Edit]) -> None:
    for name, what in edits:
        path = root / name
        if what in TEXTS:
            _write(path, TEXTS[what])
        elif what == "gone":
            path.unlink(missing_ok=True)
        elif what == "link":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to("a")
        elif path.is_file() and not path.is_symlink():
            path.chmod(0o755)


def state(root: Path) -> State:
    found: State = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(root))] = (f"-> {path.readlink()}", False)
        elif path.is_file():
            found[str(path.relative_to(root))] = (path.read_text(), bool(path.stat().st_mode & 0o100))
    return found


def merged(base: State, host: State, guest: State) -> State | None:
    """What both have afterwards; None for a conflict."""
    found: State = {}
    for name in {*base, *host, *guest}:
        was, here, there = base.get(name), host.get(name), guest.get(name)
        if here == there or there == was:
            found[name] = here
        elif here == was:
            found[name] = there
        elif (both := _merged(was, here, there)) is not None:
            found[name] = both
        else:
            return None
    return {name: one for name, one in found.items() if one is not None}


def _merged(
    was: tuple[str, bool] | None, here: tuple[str, bool] | None, there: tuple[str, bool] | None
) -> tuple[str, bool] | None:
    three = (was, here, there)
    if was is None or here is None or there is None or any("->" in one[0] for one in three if one is not None):
        return None
    run = there[1] if there[1] != was[1] else here[1]
    if any("\0" in one[0] for one in (was, here, there)):
        return None
    lines = []
    for a, b, c in zip(was[0].split("\n"), here[0].split("\n"), there[0].split("\n"), strict=True):
        if b != a and c != a and b != c:
            return None
        lines.append(b if b != a else c)
    return "\n".join(lines), run


def check(cloned: Cloned, base: State) -> State:
    """One sync: as the model says. Returns the base that is left."""
    host, guest = state(cloned.host), state(cloned.guest)
    wanted = merged(base, host, guest)
    if wanted is None:
        with pytest.raises(InConflict):
            cloned.sync("a", "b", "d", "x y")
        assert (state(cloned.host), state(cloned.guest)) == (host, guest)
        return base
    cloned.sync("a", "b", "d", "x y")
    assert state(cloned.host) == state(cloned.guest) == wanted
    assert cloned.found() == {}
    return wanted


SLOW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(st.lists(st.tuples(EDITS, EDITS), min_size=1, max_size=3))
def test_random_edits_on_both_sides(rounds: list[tuple[list[Edit], list[Edit]]]) -> None:
    with a_clone() as cloned:
        base = state(cloned.host)
        for of_host, of_guest in rounds:
            edit(cloned.host, of_host)
            edit(cloned.guest, of_guest)
            base = check(cloned, base)


@SLOW
@given(EDITS, EDITS, st.sampled_from(["put", "keep"]), st.booleans(), EDITS)
def test_an_end_in_the_middle_loses_nothing(
    of_host: list[Edit], of_guest: list[Edit], word: str, done: bool, later: list[Edit]
) -> None:
    """Killed before or after what the guest does, and then synced again, with edits of the guest in between."""
    with a_clone() as cloned:
        base = state(cloned.host)
        edit(cloned.host, of_host)
        edit(cloned.guest, of_guest)
        wanted = merged(base, state(cloned.host), state(cloned.guest))

        def run(asked: Asked) -> Answer | GuestError:
            if word not in asked.argv:
                return run_in_process(asked)
            if done:
                run_in_process(asked)
            return GuestError("the end of it")

        cloned.run = run
        ended = False
        try:
            cloned.sync("a", "b", "d", "x y")
        except InConflict:
            assert wanted is None
            return
        except GuestError:
            ended = True
        cloned.run = run_in_process
        if ended:
            cloned.sync("a", "b", "d", "x y")
        assert state(cloned.host) == state(cloned.guest) == wanted
        edit(cloned.guest, later)
        check(cloned, wanted or {})
