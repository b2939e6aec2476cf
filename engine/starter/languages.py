"""Proposals for projects in Rust, Go and Ruby: compilers from Debian, and steps that fetch what the project uses."""

from __future__ import annotations

import re

from engine.starter import headers
from engine.starter.hosts import host_of
from engine.starter.project_tree import Project, table, word
from engine.starter.proposals import Findings
from engine.starter.registries import propose_registry
from engine.starter.versions import DEBIAN, Asked, asked_version, is_newer, shown

_TARGETS = ("lib", "bin", "example", "test", "bench")
_GEMS = "/home/agent/.bundle/gems"


def look(project: Project, found: Findings) -> None:
    """Propose packages, steps and endpoints for Rust, Go and Ruby."""
    if project.text("Cargo.toml") is not None:
        _propose_rust(project, found)
    if project.text("go.mod") is not None:
        _propose_go(project, found)
    if project.text("Gemfile") is not None:
        _propose_ruby(project, found)


def _propose_rust(project: Project, found: Findings) -> None:
    manifest = project.toml("Cargo.toml")
    propose_registry(found, "crates", "Cargo.toml")
    for url in (word(entry, "index") for entry in table(project.toml(".cargo/config.toml"), "registries").values()):
        if host := host_of(url.removeprefix("sparse+")):
            found.propose("endpoints", host, "a registry in .cargo/config.toml")
    pinned = project.toml("rust-toolchain.toml")
    channel = word(pinned, "toolchain", "channel") or (project.text("rust-toolchain") or "").strip()
    asked = asked_version(project, "rust", more=[(word(manifest, "package", "rust-version"), "rust-version")])
    if asked and is_newer(asked, "rust") and not channel:
        channel = asked.text
    if channel and re.fullmatch(r"[A-Za-z0-9.-]{1,60}", channel):
        file = project.first("rust-toolchain.toml", "rust-toolchain") or (asked.seen if asked else "Cargo.toml")
        seen = f"{file} asks for {channel}; the machine has {shown('rust')}"
        found.propose("packages", "rustup", seen)
        found.propose("packages", "build-essential", seen)
        propose_registry(found, "rust", file)
        found.propose("setup", f"rustup default {channel}", seen)
    else:
        found.propose("packages", "cargo", "from Cargo.toml")
    whole = not table(manifest, "workspace") and bool(table(manifest, "package"))
    inputs = project.inputs("Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "rust-toolchain")
    if any(key in manifest for key in _TARGETS) or not whole:
        run, inputs = "cargo fetch", inputs + [n for n in ("src", "tests", "benches", "examples") if project.has(n)]
    else:  # cargo wants a source file to be there, and none has to change for what is fetched
        run = "mkdir -p src && touch src/lib.rs && cargo fetch"
    locked = " --locked" if project.text("Cargo.lock") is not None else ""
    why = "from Cargo.toml" if whole else "from Cargo.toml; the members of its workspace are inputs, too"
    found.propose("setup", {"run": f"{run}{locked}", "inputs": inputs}, why, active=whole)
    found.keep_local(project.root, "target")


def _propose_go(project: Project, found: Findings) -> None:
    text = project.text("go.mod") or ""
    found.propose("packages", "golang-go", "from go.mod")
    propose_registry(found, "go", "go.mod")
    step: dict[str, object] = {"run": "go mod download", "inputs": project.inputs("go.mod", "go.sum")}
    wanted = re.findall(r"(?m)^(?:toolchain[ \t]+go|go[ \t]+)([0-9]{1,3}(?:\.[0-9]{1,4}){0,2})", text)
    newer = [version for version in wanted if is_newer(Asked(version, "go.mod", True), "go")]
    if newer:
        why = f"go.mod asks for {newer[-1]}; the machine's {shown('go')} fetches that"
        step["env"] = {"GOTOOLCHAIN": "auto"}
        found.propose(("agent", "env", "GOTOOLCHAIN"), "auto", why)
        found.propose("endpoints", "dl.google.com", f"{why}; https://go.dev/doc/toolchain")
    # A directory that `replace` names is part of the module.
    replaced = re.findall(r"(?m)=>[ \t]*(\.{1,2}/\S*)", text)
    why = "from go.mod; the modules of its `replace` are inputs, too" if replaced else "from go.mod"
    found.propose("setup", step, why, active=not replaced)


def _propose_ruby(project: Project, found: Findings) -> None:
    gemfile = project.text("Gemfile") or ""
    for name in ("ruby-dev", "ruby-bundler", "build-essential"):
        found.propose("packages", name, "from Gemfile")
    headers.propose_headers(project, found, project.inputs("Gemfile", "Gemfile.lock"), headers.RUBY)
    urls = re.findall(r"""(?m)^[ \t]*source[ \t]*\(?[ \t]*["'](https?://[^"'\s]+)""", gemfile)
    for host in filter(None, map(host_of, urls)):
        if host != "rubygems.org":
            found.propose("endpoints", host, "a source in Gemfile")
    propose_registry(found, "rubygems", "Gemfile")
    demanded = _demanded_ruby(project, gemfile)
    asked = asked_version(project, "ruby", (".ruby-version",), [(text, "Gemfile") for text in demanded])
    wrong = not all(map(_has_ruby, demanded)) or (asked is not None and asked.numbers[:2] > DEBIAN["ruby"][:2])
    if asked and wrong:
        why = f"{asked.seen} asks for {asked.text}; the machine has {shown('ruby')}"
        propose_registry(found, "ruby", asked.seen)
        found.propose("packages", "ruby-build", f"{why}; it compiles another one", active=False)
        found.propose("setup", f"sudo ruby-build {asked.text} /usr/local", why, active=False)
    files = re.findall(r"(?m)^[ \t]*(?:gemspec|eval_gemfile)\b|path:|:path[ \t]*=>", gemfile)
    step = {
        "run": "bundle install",
        "inputs": project.inputs("Gemfile", "Gemfile.lock", ".ruby-version", ".tool-versions"),
        "env": {"BUNDLE_PATH": _GEMS},
    }
    reason = "files that the Gemfile reads are inputs, too" if files else "that Ruby is needed first" if wrong else ""
    found.propose("setup", step, f"from Gemfile; {reason}" if reason else "from Gemfile", active=not reason)
    found.propose(("agent", "env", "BUNDLE_PATH"), _GEMS, "where bundle install has installed")


def _demanded_ruby(project: Project, gemfile: str) -> list[str]:
    """The requirements on Ruby that Bundler holds the project to, such as `3.3.8` or `>= 3.2`."""
    match = re.search(r"(?m)^[ \t]*ruby[ \t(]([^#\n]{1,200})", gemfile)
    if match is None:
        return []
    if file := re.search(r"""\bfile(?::|[ \t]*=>)[ \t]*["']([^"']{1,100})["']""", match[1]):
        named = re.search(r"(?m)^\s*(?:ruby[- \t]+)?([0-9][0-9.]{0,20})", project.text(file[1]) or "")
        return [named[1]] if named else []
    plain = re.split(r"(?::?\b(?:engine|patchlevel)\w*\b)", match[1])[0]
    return re.findall(r"""["']([^"']{1,40})["']""", plain)


def _has_ruby(requirement: str) -> bool:
    """Whether the machine's Ruby satisfies a requirement as RubyGems reads it: a bare version is that one only."""
    match = re.fullmatch(r"\s*(=|!=|>=|<=|>|<|~>)?\s*([0-9]{1,4}(?:\.[0-9]{1,4}){0,3})\s*", requirement)
    if match is None:
        return True  # nobody can tell
    sign, numbers = match[1] or "=", tuple(map(int, match[2].split(".")))
    has, wanted = DEBIAN["ruby"], (*numbers, 0, 0)[: max(3, len(numbers))]
    return {
        "=": has == wanted,
        "!=": has != wanted,
        ">=": has >= wanted,
        "<=": has <= wanted,
        ">": has > wanted,
        "<": has < wanted,
        "~>": has >= wanted and (len(numbers) < 2 or has[: len(numbers) - 1] == numbers[:-1]),
    }[sign]
