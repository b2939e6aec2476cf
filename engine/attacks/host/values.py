"""The real values of secrets are nowhere; what was planted in the guest is found by the same search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.attacks.careless_server import fields_of
from engine.attacks.host.check import Check
from engine.attacks.project import REAL, ROTATED
from engine.attacks.trial import Trial
from engine.attacks.value_search import forms, in_files, in_memory, in_processes

_KINDS = ("setup", "booted", "services")
_ASK = r"""
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with context.wrap_socket(socket.create_connection(("10.0.2.100", 443), 30), server_hostname="NAME") as connection:
    connection.sendall(b"GET /repos/acme/rotated HTTP/1.1\r\nHost: NAME\r\nConnection: close\r\n\r\n")
    assert connection.recv(12) == b"HTTP/1.1 200"
"""


def needles(trial: Trial) -> dict[str, bytes]:
    """The values in other hands, and the words that must be found."""
    values = {**REAL, "rotated": ROTATED}
    secret = {f"{name} {form}": data for name, value in values.items() for form, data in forms(value).items()}
    return {**secret, "planted": trial.word.encode(), "built": trial.planted.encode()}


def _judge(place: str, found: Iterable[str], control: str) -> Iterator[str]:
    names = set(found)
    if control and control not in names:
        yield f"the search finds nothing in {place}: not even the word {control}"
    for name in sorted(names - {"planted", "built"}):
        yield f"the real value ({name}) is in {place}"


def in_machine(trial: Trial) -> Iterator[str]:
    trial.plant()
    qemu = [pid for pid, command in trial.room.processes().items() if "qemu-system" in command]
    if len(qemu) != 1:
        yield f"there are {len(qemu)} processes of QEMU"
        return
    found, _ = in_memory(qemu[0], needles(trial))
    yield from _judge("QEMU's memory", found, "planted")


def on_disk(trial: Trial) -> Iterator[str]:
    trial.plant()
    found = in_files([trial.instance], needles(trial))
    yield from _judge("the sandbox's disk", found.get(str(trial.instance / "disk.qcow2"), ()), "planted")


def in_our_files(trial: Trial) -> Iterator[str]:
    names = ("SANDBOX_STATE_DIR", "SANDBOX_RUNTIME_DIR", "SANDBOX_CONFIG_DIR", "HOME")
    roots = [Path(trial.room.variables[name]) for name in names]
    kept = in_files([root for root in roots if root.exists()], needles(trial))
    store = str(trial.room.state / "secrets.json")  # where `sandbox secret set` keeps them without a keyring
    for path, found in kept.items():
        if path != store:
            yield from _judge(path.removeprefix(str(trial.room.base)), found, "")
    if not kept:
        yield "the search finds nothing in the directory of state, which has the values"


def in_snapshots(trial: Trial) -> Iterator[str]:
    """Of the entries of the cache that were made for this run."""
    entries = [entry for kind in _KINDS for entry in (trial.room.cache / kind).glob("*/")]
    made = [entry for entry in entries if entry.stat().st_mtime >= trial.since]
    found = in_files(made, needles(trial))
    yield from _judge("a snapshot", set().union(*found.values()), "built")


def around(trial: Trial) -> Iterator[str]:
    found = in_processes(trial.room.processes(), needles(trial))
    yield from _judge("an environment or an argument", set().union(*found.values()), "")


def in_paused(trial: Trial) -> Iterator[str]:
    yield from _judge("a paused sandbox's files", trial.paused, "planted")


def at_servers(trial: Trial) -> Iterator[str]:
    """Each real value was in its header at its host, alone; nothing else came that no rule allows."""
    requests = trial.stage.requests()
    names = trial.names
    if not {names["managed"], names["second"], names["spliced"]} <= {name for name, _, _ in requests}:
        yield "the control: not every allowed host was reached"
    for name, head, body in requests:
        if not _is_good(names, name, head, body):
            yield f"{name} got {(head + body)[:300]!r}"


def rotated(trial: Trial) -> Iterator[str]:
    """What `second` got from this moment on has the value that took the place of the other one."""
    before = len(trial.stage.requests())
    trial.call("exec", "--", "python3", "-c", _ASK.replace("NAME", trial.names["second"])).ok()
    heads = [head for name, head, _ in trial.stage.requests()[before:] if name == trial.names["second"]]
    if len(heads) != 1 or f"Bearer {ROTATED}" not in heads[0] or REAL["github"] in heads[0]:
        yield f"the server got {heads}"


def _is_good(names: dict[str, str], name: str, head: str, body: str) -> bool:
    fields = fields_of(head.encode("latin-1"))
    request = head.partition(" HTTP/1.1\r\n")[0]
    if "rival" in head + body or "attacker" in head + body:
        return False
    if name == names["managed"]:
        good = request == "POST /v1/messages" and "authorization" not in fields
        return good and fields.get("x-api-key") == [REAL["anthropic"]]
    if name == names["second"]:
        good = request.startswith("GET /repos/acme/") and "x-api-key" not in fields
        return good and fields.get("authorization") in ([f"Bearer {REAL['github']}"], [f"Bearer {ROTATED}"])
    if name == names["third"]:
        good = request == "POST /v1/responses" and "x-api-key" not in fields
        return good and fields.get("authorization") == [f"Bearer {REAL['openai']}"]
    known = name in ("", names["spliced"], names["taken"]) or name.endswith(
        (".wild.example.com", ".inward.example.com")
    )
    return known and not [value for value in REAL.values() if value in head + body]


CHECKS = (
    Check("credentials", "QEMU's memory", "No value of a secret is in the machine's memory, in any encoding.", in_machine),
    Check("credentials", "the disk", "No value of a secret is on the sandbox's disk, in any encoding.", on_disk),
    Check("credentials", "our files", "No value is in the directories of state, runtime and configuration, but for the user's own store.", in_our_files),
    Check("credentials", "snapshots", "No value is in the snapshots that were made.", in_snapshots),
    Check("credentials", "environments", "No value is in the environment or the arguments of a process.", around),
    Check("credentials", "a paused sandbox", "No value is in the memory and the disk of a paused sandbox.", in_paused, ("resumed",)),
    Check("credentials", "a replaced value", "A value that takes the place of another is used from the next request on, and the other one no more.", rotated, ("revoked",)),
    Check("credentials", "what servers got", "A value is in its header at its host, alone, and nothing came that no rule allows.", at_servers),
)  # fmt: skip
