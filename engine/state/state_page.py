"""What is kept where, for docs/state.md: `python -m engine.state.state_page docs/state.md` writes its table."""

from __future__ import annotations

import re
import sys
from pathlib import Path

# (root, path below it, what is there, what happens when it is deleted)
PATHS: tuple[tuple[str, str, str, str], ...] = (
    ("cache", "README", "says what the directory is", "written again by the next command"),
    ("cache", "<kind>/<key>/", "one finished cache entry, never changed afterwards", "built again when needed"),
    ("cache", "<kind>/<key>/entry.json", "kind, key, inputs, parents, when, how long, size", "only with its entry"),
    ("cache", "<kind>/<key>/complete", "written last; its time is the last use of the entry", "only with its entry"),
    ("cache", "<kind>/<key>/files.json", "size, time and digest of each of its files", "damage is not noticed"),
    ("cache", "tmp/<kind>-<key>-<random>/", "an entry being built, or being deleted", "safe when no build runs"),
    ("cache", "locks/<kind>-<key>.lock", "held by the process that builds the entry", "safe when no build runs"),
    ("cache", "locks/<kind>-<key>.json", "who holds that lock, for those who wait", "safe when no build runs"),
    ("cache", "locks/hold-<random>.json", "what a running build or start needs", "safe when no build runs"),
    ("cache", "locks/state-<digest>.json", "a state directory that uses this cache", "noted again by its next `up`"),
    ("cache", "locks/removal.lock", "held while entries are taken away", "safe when no build runs"),
    ("state", "README", "says what the directory is", "written again by the next command"),
    ("state", "instances/<name>/", "one sandbox", "use `sandbox down <name>`"),
    ("state", "instances/<name>/instance.json", "the record: project, plan, supervisor, ports", "the sandbox is lost"),
    (
        "state",
        "instances/<name>/configuration.json",
        "what it runs with; `up` compares the file with it",
        "the next `up` wants a new machine",
    ),
    ("state", "instances/<name>/supervisor.log", "what the supervisor did", "safe"),
    ("state", "instances/<name>/supervisor.old.log", "its older lines", "safe"),
    ("state", "instances/<name>/console.log", "the guest's console", "safe"),
    ("state", "instances/<name>/console.old.log", "its older lines", "safe"),
    ("state", "instances/<name>/journal.jsonl", "every connection that the gateway decided on", "safe"),
    ("state", "instances/<name>/journal.jsonl.<number>", "its older lines", "safe"),
    (
        "state",
        "instances/<name>/troubles.json",
        "what keeps it from working now, such as a full disk; its room is taken before that",
        "`ls` does not say it",
    ),
    ("state", "instances/<name>/ssh/host_key", "the key that its sshd shows", "`sandbox ssh-config` makes it again"),
    ("state", "instances/<name>/ssh/id_ed25519", "the key that its sshd lets in", "with `host_key` alone"),
    ("state", "instances/<name>/ssh/id_ed25519.pub", "its public half", "with `host_key` alone"),
    ("state", "instances/<name>/ssh/known_hosts", "pins `host_key` for the host's ssh", "with `host_key` alone"),
    ("state", "instances/<name>/ssh/config", "its alias, which the file `ssh_config` includes", "its alias is lost"),
    ("state", "instances/<name>/disk.qcow2", "the sandbox's own disk, over the snapshot's", "the sandbox is lost"),
    ("state", "instances/<name>/next.qcow2", "its next disk, over that one, while it is forked", "the fork fails"),
    ("state", "instances/<name>/layer-<number>.qcow2", "what its disk was when it was forked", "the sandbox is lost"),
    ("state", "instances/<name>/paused/ram", "the memory of a paused sandbox", "the sandbox is lost"),
    ("state", "instances/<name>/paused/state", "the state of its devices", "the sandbox is lost"),
    ("state", "instances/<name>/paused/meta.json", "the machine that both are of", "the sandbox is lost"),
    (
        "state",
        "instances/<name>/paused/launch.json",
        "what it was started with, without values of secrets",
        "the sandbox is lost",
    ),
    (
        "state",
        "instances/<name>/paused/temporary.json",
        "what you allowed and denied for now",
        "`sandbox resume` fails",
    ),
    (
        "state",
        "instances/<name>/paused/authority.pem",
        "its certificate authority, with the key",
        "programs that run in it no longer trust the gateway",
    ),
    ("state", "instances/<name>/paused.new/", "the same, being written or of no use any more", "safe"),
    (
        "state",
        "instances/<name>/stopped/",
        "of a stopped sandbox what `paused/` holds of a paused one, without its memory",
        "the next `up` makes a new machine",
    ),
    ("state", "instances/<name>/stopped.new/", "the same, being written or of no use any more", "safe"),
    (
        "state",
        "forks/<fork>/disk.qcow2",
        "what the disks of clones lie over; the last `down` removes it",
        "they are lost",
    ),
    ("state", "forks/<fork>/layer-<number>.qcow2", "what that one lies over", "with `disk.qcow2` alone"),
    ("state", "forks/<fork>/held", "locked while a `sandbox fork` needs what is beside it", "safe when no fork runs"),
    ("state", "forks/<fork>/ram", "the memory of a sandbox while it is forked", "safe when no fork runs"),
    ("state", "forks/<fork>/state", "the state of its devices", "safe when no fork runs"),
    ("state", "forks/<fork>/meta.json", "the machine that these are of", "with `disk.qcow2` alone"),
    ("state", "forks/<fork>/launch.json", "what it runs with, without values of secrets", "safe when no fork runs"),
    ("state", "forks/<fork>/temporary.json", "what you allowed and denied for now", "safe when no fork runs"),
    ("state", "forks/<fork>/authority.pem", "its certificate authority, with the key", "safe when no fork runs"),
    (
        "state",
        "failed/<name>/",
        "record, console, journal and log of a start that failed; the last five are kept",
        "safe",
    ),
    ("state", "locks/<name>.lock", "held while a sandbox of that name is brought up or down", "safe when nothing runs"),
    (
        "state",
        "snapshots/<label>/",
        "a sandbox at one moment: `sandbox snapshot`",
        "use `sandbox snapshot --rm <label>`",
    ),
    ("state", "snapshots/<label>/instance.json", "the record of that sandbox", "the snapshot is lost"),
    ("state", "snapshots/<label>/configuration.json", "what it ran with", "the snapshot is lost"),
    ("state", "snapshots/<label>/held", "locked while something begins there", "safe when no `up` runs"),
    ("state", "locks/.forks.lock", "held while forks are made room for or removed", "safe when nothing runs"),
    ("state", "projects/<project>/plan.json", "what the last build was made of; explains the next plan", "safe"),
    ("state", "projects/<project>/plan-<agent>.json", "the same, of one of the file's `agents`", "safe"),
    (
        "state",
        "projects/<project>/seen.json",
        "what the files that nobody names said at the last start",
        "asked about anew",
    ),
    (
        "state",
        "projects/<project>/kept-<name>.tar",
        "sessions and histories of the agent of one sandbox, with `keep: true`",
        "they are lost; `sandbox down --volumes` does it",
    ),
    (
        "state",
        "remembered/<words>.json",
        "what an `up` of these words looked at and started; the next one is fast if all of it is unchanged",
        "the next `up` reads everything again",
    ),
    ("state", "trust/<id>.json", "what you allowed one file to ask of this host", "the next `up` asks again"),
    (
        "state",
        "secrets.json",
        "names of the secrets you keep, and where there is no keyring their values, readable by you alone",
        "use `sandbox secret rm`",
    ),
    ("state", "ssh_config", "what your ssh reads, after `sandbox ssh-config --write`", "use `ssh-config --remove`"),
    ("state", "secrets.lock", "held while a secret is kept or removed", "safe when nothing runs"),
    ("runtime", "README", "says what the directory is", "written again by the next command"),
    (
        "runtime",
        "<name>/control.sock",
        "where the supervisor answers (a long name is cut and hashed)",
        "only after `sandbox down <name>`",
    ),
    ("runtime", "<name>/gw-<port>.sock", "where the guest's connections arrive", "only with its sandbox"),
    ("runtime", "<name>/mount-<number>.sock", "where the file server of one mount listens", "only with its sandbox"),
    (
        "runtime",
        "<name>/mount-<number>/",
        "where that file server makes the mount its root; empty for everybody else",
        "only with its sandbox",
    ),
    (
        "runtime",
        ".wake-<name>/ports.sock",
        "where the process is asked that listens on the ports of a paused sandbox",
        "its ports are not listened on until `sandbox resume`",
    ),
    (
        "runtime",
        ".build-<random>/",
        "the same sockets, of a machine that builds a cache entry",
        "safe when no build runs",
    ),
    ("config", "config.yaml", "your habits: detach keys, size of the cache; you write it", "the usual ones are back"),
    ("config", "secrets.yaml", "where you have secrets that you do not keep here; you write it", "they have no value"),
    ("config", "agents/<name>/agent.yaml", "an agent of your own; you write it", "`use: <name>` finds it no more"),
    ("config", "agents/<name>/Sandboxfile.yaml", "what `sandbox init <name>` starts with", "it makes one up"),
)
_ROW = re.compile(r"\| (cache|state|runtime|config) \| `[^$]")


def rows() -> list[str]:
    """The rows of the table, in the order of the list."""
    return [f"| {root} | `{path}` | {what} | {deleting} |" for root, path, what, deleting in PATHS]


def with_rows(page: str) -> str:
    """The page with the rows as they are now, in the place of those that it has. Raises ValueError without any."""
    lines = page.splitlines()
    at = [number for number, line in enumerate(lines) if _ROW.match(line)]
    lines[min(at) : max(at) + 1] = rows()
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(with_rows(target.read_text()))
