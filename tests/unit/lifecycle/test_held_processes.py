"""Each line of the table of confinement can go red: a fact is altered, and the judge names the row and the column.

The breaks are parametrized from the table: a row that claims something in a column, of which no break shows that its
claim is looked at, fails here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asked_process import can_ask
from held_processes import (
    CALLS,
    CAPABILITIES,
    COLUMNS,
    DUMPS,
    FILES,
    LIMITS,
    NETWORK,
    PROGRAMS,
    VARIABLES,
    Host,
    as_told,
    complaints,
    kind_of,
)
from seen_process import KINDS, Opened, Seen, attempts

from engine.lifecycle.confinement import CODE, DISK, DISKS, PROCESSES, SHARE, Held, cells

OURS = {kind: f"{kind}:[1]" for kind in KINDS}
WORDS = {
    DISKS: ("/cache/", "/state/instances/x/disk.qcow2\n"),
    DISK: ("/state/instances/x/disk.qcow2\n",),
    SHARE: ("/\n", "/home/me/project"),
    CODE: ("/cache/",),
}
ROOT = Host(OURS, True, WORDS, filtered=True, landlock=True)
USER = replace(ROOT, is_root=False)
# Rows that promise nothing there, and say so.
NO_PROMISE = ("the user's", "all")
Break = Callable[[Seen, Held], Seen | None]


def opens(target: str, *, writable: bool = False) -> Break:
    def alter(seen: Seen, held: Held) -> Seen | None:
        if (held.writes if writable else held.descriptors) is None:
            return None
        return replace(seen, descriptors=(*(seen.descriptors or ()), Opened(target, writable)))

    return alter


def shares(kind: str) -> Break:
    def alter(seen: Seen, held: Held) -> Seen | None:
        assert seen.namespaces is not None
        return replace(seen, namespaces={**seen.namespaces, kind: OURS[kind]}) if kind in held.namespaces else None

    return alter


def says(name: str, value: str, only: Callable[[Held], Any] = lambda held: held.confined) -> Break:
    return lambda seen, held: replace(seen, status={**seen.status, name: value}) if only(held) else None


def tries(word: str, error: str) -> Break:
    return lambda seen, held: replace(seen, tried={**(seen.tried or {}), word: error}) if held.landlocked else None


def has(name: str, value: Any, only: Callable[[Held], Any] = lambda held: True) -> Break:
    return lambda seen, held: replace(seen, **{name: value}) if only(held) else None


def limit(name: str, value: Callable[[int | None], str | None]) -> Break:
    def alter(seen: Seen, held: Held) -> Seen | None:
        most = dict(held.limits).get(name, 0)
        if name not in dict(held.limits) or (changed := value(most)) is None:
            return None
        return replace(seen, limits={**seen.limits, name: (changed, changed)})

    return alter


def own_network(held: Held) -> bool:
    return "net" in held.namespaces


def unlimited(most: int | None) -> str:
    return "unlimited"


def one_more(most: int | None) -> str | None:
    return None if most is None else str(most + 1)


BREAKS: dict[str, dict[str, Break]] = {
    FILES: {
        "a file of the user's": opens("/home/me/.ssh/id_ed25519"),
        "a device": opens("/dev/kvm"),
        "a file beside its share": opens("/home/me/other"),
        "a disk of another sandbox": opens("/state/instances/y/disk.qcow2"),
        "an image, for writing": opens("/cache/image/root.raw", writable=True),
        "the host's mounts": has("mounts", ("/", "/proc"), lambda held: held.root),
        "no mount namespace": shares("mnt"),
        "no Landlock": tries("open", ""),
        "another error": tries("open", "EMFILE"),
        "no Landlock behind the namespaces": lambda seen, held: (
            replace(seen, tried={**(seen.tried or {}), "beside": ""}) if held.root and held.landlocked else None
        ),
    },
    NETWORK: {
        "no network namespace": shares("net"),
        "a device": has("devices", frozenset({"lo", "eth0"}), own_network),
        "a route": has("routes", 1, own_network),
        "a listener": has("listening", frozenset({"0.0.0.0:80"})),
        "a listener by IPv6": has("listening", frozenset({":::80"})),
        "a socket": tries("socket", ""),
        "a socket, which Landlock lets it make": tries("socket", "EACCES"),
    },
    PROGRAMS: {
        "a program": has("starts", ("/bin/sh -c id",)),
        "code of the user's": has("code", frozenset({"/home/me/evil.so"}), lambda held: held.confined),
        "no namespace for System V": shares("ipc"),
        "no namespace for the host's name": shares("uts"),
        "a signal": tries("signal", ""),
    },
    CAPABILITIES: {
        **{name: says(name, f"{1:016x}") for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")},
        "CapBnd": says("CapBnd", f"{1:016x}", lambda held: held.confined and held.name != "passt"),
        "privileges by a program": says("NoNewPrivs", "0"),
    },
    CALLS: {
        "no filter": says("Seccomp", "0", lambda held: held.calls),
        "strict mode is none of ours": says("Seccomp", "1", lambda held: held.calls),
        "one filter fewer": lambda seen, held: (
            replace(seen, status={**seen.status, "Seccomp_filters": str(held.calls - 1)}) if held.calls else None
        ),
    },
    LIMITS: {
        **{f"{name}, none": limit(name, unlimited) for held in PROCESSES for name, _ in held.limits},
        **{f"{name}, one more": limit(name, one_more) for held in PROCESSES for name, _ in held.limits},
    },
    VARIABLES: {
        "a token": has("variables", frozenset({"GITHUB_TOKEN"})),
        "a proxy, which may hold a password": has("variables", frozenset({"https_proxy"})),
    },
    DUMPS: {
        "of any size": lambda seen, held: replace(
            seen, limits={**seen.limits, "Max core file size": ("unlimited", "unlimited")}
        ),
        "when it raises its limit": lambda seen, held: replace(
            seen, limits={**seen.limits, "Max core file size": ("0", "unlimited")}
        ),
    },
}


def each_break() -> Iterator[Any]:
    for held in PROCESSES:
        for column, breaks in BREAKS.items():
            for name, alter in breaks.items():
                if alter(as_told(held, ROOT), held) is not None:
                    yield pytest.param(held, column, alter, id=f"{held.name.split(',')[0]}: {column}: {name}")


@pytest.mark.parametrize("host", [ROOT, USER], ids=["root", "user"])
@pytest.mark.parametrize("held", PROCESSES, ids=lambda held: held.name)
def test_what_is_as_the_row_says_is_not_complained_about(held: Held, host: Host) -> None:
    assert list(complaints(as_told(held, host), held, host)) == []


@pytest.mark.parametrize("host", [ROOT, USER], ids=["root", "user"])
@pytest.mark.parametrize(("held", "column", "alter"), list(each_break()))
def test_one_fact_that_is_otherwise_names_row_and_column(held: Held, column: str, alter: Break, host: Host) -> None:
    altered = alter(as_told(held, host), held)
    assert altered is not None
    found = list(complaints(altered, held, host))
    assert {(row, of) for row, of, _ in found} == {(held.name, column)}, found


def test_an_ordinary_user_s_processes_have_a_user_namespace_of_their_own() -> None:
    for held in PROCESSES:
        seen = as_told(held, USER)
        assert seen.namespaces is not None
        found = list(complaints(replace(seen, namespaces={**seen.namespaces, "user": OURS["user"]}), held, USER))
        assert [of for _, of, _ in found] == ([CAPABILITIES] if held.namespaces else []), held.name


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("held", PROCESSES, ids=lambda held: held.name)
def test_each_claim_of_a_row_has_a_break(held: Held, column: str) -> None:
    """A new row, or a new column, without one is red."""
    claims = cells(held).get(column, "none" if column == LIMITS and not held.limits else "claimed")
    broken = [name for name, alter in BREAKS[column].items() if alter(as_told(held, ROOT), held) is not None]
    if not broken:
        assert claims.startswith(NO_PROMISE) or (column, claims) == (LIMITS, "none"), claims


def test_every_column_of_the_table_is_judged() -> None:
    assert set(COLUMNS) == set(BREAKS) >= set(cells(PROCESSES[0]))


def test_what_nobody_may_look_at_is_not_judged() -> None:
    """An ordinary user sees nothing of the descriptors and namespaces of a process that is not dumpable."""
    hidden = dict.fromkeys(
        ("namespaces", "descriptors", "code", "variables", "devices", "routes", "listening", "tried")
    )
    for held in PROCESSES:
        assert list(complaints(replace(as_told(held, USER), **hidden), held, USER)) == []


def test_the_stand_in_of_a_file_server_is_held_by_the_row_of_the_file_server() -> None:
    """It has the same command line, is the one process that a file server starts, and holds no directory."""
    server = kind_of("python3 -m vmm.fileserver --share 3")
    assert server is not None
    seen = as_told(server, ROOT)
    assert list(complaints(replace(seen, starts=("python3 -m vmm.fileserver --share 3",)), server, ROOT)) == []
    assert list(complaints(replace(seen, starts=(), tried={**(seen.tried or {}), "beside": None}), server, ROOT)) == []


@pytest.mark.skipif(not can_ask(), reason="this host lets nobody ask a process")
def test_a_process_that_holds_no_directory_was_not_asked_to_open_one(tmp_path: Path) -> None:
    place = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    for descriptors, found in (([place], ""), ([], None)):
        argv = [sys.executable, "-c", "print('waits', flush=True); input()"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=descriptors) as process:
            try:
                assert process.stdout and process.stdout.readline() == b"waits\n"
                assert attempts(process.pid, tmp_path)["beside"] == found
            finally:
                process.kill()
    os.close(place)


def test_each_process_has_one_row() -> None:
    for held in PROCESSES:
        assert kind_of(f"python3 {' x '.join(held.marks)} y") is held
    assert kind_of("/bin/sh -c id") is None
