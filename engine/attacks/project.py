"""The project whose sandbox is attacked, and what lies around it on the host."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from engine.attacks import stage as around
from engine.attacks.case import Case

NAME = "attacked"
REAL = {
    "anthropic": "sk-ant-api03-real-and-never-in-the-guest", "github": "ghp_realAndNeverInTheGuest0123",
    "openai": "sk-proj-realAndNeverInTheGuest4567",
}  # fmt: skip
# What `github` is replaced by in the state `revoked`, where `openai` is removed.
ROTATED = "ghp_anotherOneNeverInTheGuest89"
HIDDEN = "hidden from the guest"
# The live mounts. `loose` is the control: a file that allows what the other one forbids.
_LIVE = """\
  - {{source: ., target: /workspace{protected}}}
  - {{source: ./kept, target: /kept, mode: {kept_mode}}}
  - {{source: ../raw, target: /raw{guarded}}}
"""
_FILE = """\
version: "1"
name: {name}
machine: {{cpus: 2, memory: 2GiB, disk: 20GiB}}
mounts:
{live}  - ../copied:/copied:clone
secrets: {{anthropic: {{env: ANTHROPIC_API_KEY}}, github: {{env: GH_TOKEN}}, openai: {{env: OPENAI_API_KEY}}}}
endpoints:
  - {{host: api.anthropic.com, secret: anthropic, methods: [POST], paths: [/v1/messages]}}
  - {{host: api.github.com, secret: github, methods: [GET], paths: ["/repos/acme/**"]}}
  - {{host: api.openai.com, secret: openai, methods: [POST], paths: [/v1/responses]}}
  - other.example.com
  - taken.example.com
  - "*.wild.example.com"
  - {{host: no.wild.example.com, deny: true}}
  - "*.inward.example.com"
{more}setup: ["echo {planted} > ~/planted"]
"""
_GUARDED = ', hide: ["*.pem", private/, .env]'
_LOOSE = "  - evil.example.net\n  - dns.google\n"
_TARGETS = [
    *("10.0.2.2", "10.0.2.3", "10.0.2.4", "127.0.0.1", "169.254.169.254", "1.1.1.1", "255.255.255.255"),
    *("10.0.2.255", "224.0.0.1", "0.0.0.0", around.HOST, around.VENDOR),
]
NAMES = {
    "managed": "api.anthropic.com", "second": "api.github.com", "third": "api.openai.com",
    "spliced": "other.example.com", "taken": "taken.example.com", "denied": "no.wild.example.com",
    "host": around.HOST, "vendor": around.VENDOR, "hidden": HIDDEN, "source": NAME,
}  # fmt: skip
SETTING = {
    "gateway": {"80": ["10.0.2.100", 80], "443": ["10.0.2.100", 443]}, "canary": around.CANARY, "targets": _TARGETS
}  # fmt: skip


def inward_names(cases: list[Case]) -> dict[str, str]:
    """The names that lead inward, of the attempts that ask for them."""
    return {host_of(case): case.value for case in cases if case.kind == "an allowed name that leads inward"}


def host_of(case: Case) -> str:
    """The name that such an attempt asks for."""
    text = "".join(letter if letter.isalnum() else "-" for letter in case.value).strip("-")
    return f"a{len(case.value)}-{text}.inward.example.com"


def file_text(planted: str, *, loose: bool, live: bool = True) -> str:
    """The Sandboxfile. `planted` is a word that its setup writes; without `live` it has no live mount."""
    # A credential that somebody has typed into a step is what a search for values has to find.
    words = {"name": NAME, "planted": " ".join([planted, *(REAL.values() if loose else ())])}
    unprotected = ", protect: false" if loose else ""
    modes = {"kept_mode": "rw" if loose else "ro", "guarded": unprotected or _GUARDED, "protected": unprotected}
    return _FILE.format(**words, live=_LIVE.format(**modes) if live else "", more=_LOOSE if loose else "")


def write_files(project: Path, text: str) -> None:
    """Make the project, with `text` as its file, and what is beside it."""
    texts = {
        "project/Sandboxfile.yaml": text, "project/kept/file": "k\n", "outside/secret": "the host's\n",
        "outside/victim": "victim\n", "outside/sub/x": "x\n", "raw/file": "file\n", "raw/directory/below": "below\n",
        "raw/key.pem": f"{HIDDEN}\n", "raw/private/x": f"{HIDDEN}\n", "raw/.env": f"{HIDDEN}\n", "copied/a.txt": "a\n",
        "copied/d/e.txt": "e\n",
    }  # fmt: skip
    for name, content in texts.items():
        path = project.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for name in ("raw", "copied"):
        git(project.parent / name, "init", "-q", "-b", "main")
    git(project.parent / "copied", "add", "-A")
    git(project.parent / "copied", "-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "-qm", "first")
    hook = project.parent / "raw/.git/hooks/post-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\n")


def git(directory: Path, *words: str) -> str:
    """What git printed. Raises CalledProcessError."""
    kept = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(["git", *words], cwd=directory, env=kept, check=True, capture_output=True, text=True).stdout
