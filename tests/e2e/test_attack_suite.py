"""The runner of the attempts with a real sandbox: some of each group hold, and get out where the file lets them.

All attempts, in all states: test_escapes.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.attacks.judgement import HELD, OUT
from engine.attacks.room import why_not
from engine.attacks.run import Result, Wanted, run_attacks

LONGEST_S = 1500
# One of each group that needs a sandbox, all of which a loose file lets out; in `fresh` unless it says otherwise.
REPRESENTATIVES = {
    "names: a name that nobody allowed (plain)",
    "http: a second host on a plain connection",
    "tls: a hello in one-byte pieces",
    "network: DNS over HTTPS (by name)",
    "tampering: connections bent to the gateway",
    "docker: a container with everything (on a bridge)",
    "hidden: a hidden file (by its name)",
    "raw-mounts: protected names by hand (a hook)",
    "mounts: what the host runs later (a hook)",
    "mounts: a mount that is only read (remounted)",
    "mounts: a read-only mount after all",
    "mounts: what the host runs, after all",
    "credentials: QEMU's memory",
    "credentials: the disk",
    "credentials: snapshots",
}
GIVEN_BACK = (
    "raw-mounts: the kernel's driver again"  # so that /raw is there in the next state; a loose file is no matter
)
IN_STATES = {"live: a name that was taken away", "revoked: a credential that was removed (with its placeholder)"}
pytestmark = [
    pytest.mark.timeout(LONGEST_S),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]


def run(loose: bool) -> Result:
    labels = frozenset(REPRESENTATIVES | IN_STATES | {GIVEN_BACK})
    wanted = Wanted(states=("fresh", "live-changed", "revoked"), labels=labels, loose=loose)
    return run_attacks(wanted, os.environ, Path(os.environ["SANDBOX_CACHE_DIR"]), print)


def by_state(result: Result) -> dict[str, set[str]]:
    return {state: {outcome.case.label for outcome in outcomes} for state, outcomes in result.outcomes.items()}


def test_some_of_each_group_hold(isolated: None) -> None:
    result = run(loose=False)
    assert [(one.case.label, one.complaints) for one in result.all() if one.verdict != HELD] == []
    tried = by_state(result)
    assert (
        tried["fresh"] == REPRESENTATIVES | {GIVEN_BACK}
        and tried["revoked"] & IN_STATES
        and tried["live-changed"] & IN_STATES
    )


def test_what_the_file_lets_out_is_seen(isolated: None) -> None:
    """The control: the same attempts on a sandbox whose file allows them are all out."""
    result = run(loose=True)
    held = {one.case.label for one in result.outcomes["fresh"] if one.verdict != OUT}
    assert held == {GIVEN_BACK}
    for state in ("live-changed", "revoked"):
        verdicts = {one.case.label: one.verdict for one in result.outcomes[state] if one.case.label in IN_STATES}
        assert set(verdicts.values()) == {OUT}, verdicts
