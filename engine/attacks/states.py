"""The states of a sandbox in which attempts are made, and what is left out in one of them, and why."""

from __future__ import annotations

from engine.attacks.case import HOST, Case

FRESH, REVOKED, FORKED = "fresh", "revoked", "forked"
# state -> (what it is, for the page). A case that names none is tried in each.
STATES = {
    FRESH: "a sandbox that was just made",
    "resumed": "it was paused to the disk, and resumed",
    "started": "it was stopped, and its disk was booted again",
    "restored": "another one, from the snapshot of the first",
    "restarted": "its supervisor was killed, and `up` made it anew",
    "live-changed": "the endpoints of the running sandbox were changed",
    REVOKED: "one credential was removed, and another one replaced, while it ran",
    FORKED: "a clone of a running sandbox, which runs on beside it",
}
_NO_MOUNT = "a sandbox with a live mount cannot be forked: that it is refused is looked at when this state is entered"
_TOOLS = (
    "`diff`, `apply`, `pull` and `cp` ask neither the gateway nor the credentials, and a sandbox that is made by `up`"
    " is fresh for them"
)
_LACKS = "what ends the sandbox is followed by `up`, which makes none without the credential"
# (states, groups or "group: kind", only on the host's side?) -> why it is not tried there.
_LEFT_OUT: tuple[tuple[tuple[str, ...], tuple[str, ...], bool, str], ...] = (
    ((FORKED,), ("hidden", "mounts", "raw-mounts"), False, _NO_MOUNT),
    (("started", "restored", "restarted", "live-changed", REVOKED), ("host tools",), True, _TOOLS),
    ((REVOKED,), ("channel: frames", "channel: a guestd that lies", "kernel: the end"), True, _LACKS),
)
_ALWAYS = ("host tools: journal, ls, stats, endpoints",)


def why_left_out(state: str, case: Case) -> str:
    """Why a case is not tried in a state; "" if it is."""
    names = {case.group, f"{case.group}: {case.kind}"}
    if names & set(_ALWAYS):
        return ""
    for states, left_out, on_host, why in _LEFT_OUT:
        if state in states and on_host == (case.needs == HOST) and names & set(left_out):
            return why
    return ""


def left_out() -> list[tuple[str, str, str]]:
    """(states, what is not tried in them, why), for people."""
    return [(", ".join(states), ", ".join(names), why) for states, names, _, why in _LEFT_OUT]
