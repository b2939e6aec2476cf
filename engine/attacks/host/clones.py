"""What the host sees of a clone: it is another sandbox than its source, and touches nothing that is its source's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine.attacks.host.check import Check
from engine.attacks.project import NAME
from engine.attacks.states import FORKED
from engine.attacks.trial import Trial
from engine.attacks.value_search import in_files

_WHO = "cat /etc/machine-id; hostname; head -c 32 /dev/urandom | od -An -tx1 -v | tr -d ' \\n'; echo; cat /proc/sys/kernel/random/uuid"
_DRAWN = "cat /dev/shm/drawn"
_SOURCES = "cat /srv/whose; hostname"
_ASK = "python3 -c \"import socket; c = socket.create_connection(('10.0.2.100', 80), 30); c.sendall(b'GET / HTTP/1.1\\r\\nHost: NAME\\r\\n\\r\\n'); c.recv(9)\""
_OF_CLONE = ("of-the-clone", "bookmark", "evil.example.net")  # what the attempts ask for, in the clone alone


def source(trial: Trial, script: str) -> str:
    """What a script says that root runs in the clone's source. Raises EngineError."""
    argv = ("exec", "-n", NAME, "-u", "root", "-w", "/", "--", "sh", "-c", script)
    return trial.room.sandbox(*argv, cwd=trial.project).ok().out


def identity(trial: Trial) -> Iterator[str]:
    names = ("machine-id", "host name", "random bytes", "random UUID")
    both = zip(names, source(trial, _WHO).splitlines(), trial.root(_WHO).ok().out.splitlines(), strict=True)
    for what, of_source, of_clone in both:
        if of_source == of_clone:
            yield f"the {what} of both is {of_clone}"


def pool(trial: Trial) -> Iterator[str]:
    """A program that drew from the pool when the sandbox was forked draws on in both, and never the same again.

    What it drew before is the same in both, with its time; the same number at another time was drawn twice.
    """
    of_source, of_clone = (_by_number(text) for text in (source(trial, _DRAWN), trial.root(_DRAWN).ok().out))
    before = {number for number in of_clone if of_source.get(number) == of_clone[number]}
    if not before or not of_clone.keys() - before:
        yield f"the control: {len(before)} numbers were drawn before, and {len(of_clone)} in all"
    if twice := [number for number in of_clone.keys() & of_source.keys() if number not in before]:
        since = (min(int(of_clone[number]) for number in twice) - max(int(of_clone[number]) for number in before)) / 1e6
        until = (max(int(of_clone[number]) for number in twice) - max(int(of_clone[number]) for number in before)) / 1e6
        yield f"both drew the same number {len(twice)} times, {since:.0f} to {until:.0f} ms after the last common one"


def _by_number(text: str) -> dict[str, str]:
    """When each number was drawn, in nanoseconds of the machine's time."""
    lines = (line.split() for line in text.splitlines())
    return {words[1]: words[0] for words in lines if len(words) == 2}


def gateway(trial: Trial) -> Iterator[str]:
    """What the clone asks, now and before, is not in its source's journal, nor the other way round."""
    path = trial.room.state / "instances" / NAME / "journal.jsonl"
    trial.root(_ASK.replace("NAME", "of-the-clone.example")).ok()
    lines = path.read_text().splitlines() if path.exists() else []
    if asked := [line for line in lines if any(word in line for word in _OF_CLONE)]:
        yield f"the journal of the source has {asked[0][:300]}"
    if not any("of-the-clone" in (line.get("host") or "") for line in trial.journal()):
        yield "the control: the journal of the clone has none of what it asked"
    source(trial, _ASK.replace("NAME", "of-the-source.example"))
    if any("of-the-source" in str(line.get("host")) for line in trial.journal()):
        yield "what the source asked is in the journal of the clone"
    if "of-the-source" not in path.read_text():
        yield "what the source asked is not in its own journal"


def denied(trial: Trial) -> Iterator[str]:
    """What is denied to the clone alone is allowed to its source still."""
    ask = f"curl -s -m 60 -o /dev/null -w '%{{http_code}}' http://{trial.names['spliced']}/"
    trial.call("deny", trial.names["spliced"]).ok()
    of_clone, of_source = trial.root(ask).out, source(trial, ask)
    trial.call("deny", "--end", trial.names["spliced"]).ok()
    if (of_clone, of_source) != ("403", "200"):
        yield f"the clone was answered {of_clone}, and its source {of_source}"


def files(trial: Trial) -> Iterator[str]:
    """What the clone writes is in its own files alone; its source has what it had."""
    trial.plant()
    needles = {"planted": trial.word.encode()}
    instances = trial.room.state / "instances"
    if not in_files([instances / trial.name], needles):
        yield "the search finds nothing in the clone's own files"
    places = [instances / NAME, trial.room.state / "forks"]
    if found := in_files([place for place in places if place.exists()], needles):
        yield f"what the clone wrote is in {sorted(found)}"
    if (said := source(trial, _SOURCES)) != f"the source\n{NAME}\n":
        yield f"the source says {said!r}"


def held(trial: Trial) -> Iterator[str]:
    """No process of the clone has a file or a socket of its source, and none writes below its disk."""
    mine = trial.room.state / "instances" / NAME
    sockets = Path(trial.room.variables["SANDBOX_RUNTIME_DIR"])
    forbidden = (f"{mine}/", *(f"{name}/" for name in trial.room.aside if name.startswith(f"{sockets}/")))
    forks = f"{trial.room.state}/forks/"
    seen = 0
    for pid, command in trial.room.processes().items():
        process = Path(f"/proc/{pid}")
        for number, path in _open_files(process):
            seen += path.startswith(forks)
            if path.startswith(forbidden):
                yield f"{_program(command)} has {path} open"
            elif path.startswith(forks) and _writes(process, number):
                yield f"{_program(command)} may write into {path}"
    if not seen:
        yield "the control: no process has the disk open that the clone's lies over"


def _open_files(process: Path) -> Iterator[tuple[str, str]]:
    try:
        for link in (process / "fd").iterdir():
            yield link.name, str(link.readlink())
        for line in (process / "maps").read_text().splitlines():
            if len(words := line.split(maxsplit=5)) == 6:
                yield "", words[5]
    except OSError:  # it has just ended
        return


def _writes(process: Path, number: str) -> bool:
    if not number:
        return False
    try:
        lines = (process / "fdinfo" / number).read_text().splitlines()
    except OSError:
        return False
    flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
    return flags & os.O_ACCMODE != os.O_RDONLY


def _program(command: str) -> str:
    return command.split()[0].rpartition("/")[2]


CHECKS = tuple(
    Check("forks", kind, claim, look, (FORKED,))
    for kind, claim, look in (
        ("identity", "A clone has a machine-id, a name and random numbers of its own.", identity),
        ("a program that draws", "A program that drew random numbers when it was forked draws others in the clone than in the source.", pool),
        ("a gateway", "A clone has a gateway and a journal of its own: what one asks is in that of the other never.", gateway),
        ("a denial", "What is denied to the clone is so for the clone alone.", denied),
        ("files", "What a clone writes is in no file of its source, nor in what its disk lies over.", files),
        ("what is open", "No process of a clone has a file or a socket of its source's, and what its disk lies over is only read.", held),
    )
)  # fmt: skip
