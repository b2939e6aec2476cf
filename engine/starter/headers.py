"""Debian's packages for what is compiled when it is installed: Python's and Ruby's packages that come as sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from engine.starter.project_tree import Project
from engine.starter.proposals import Findings

_MYSQL = "default-libmysqlclient-dev"
_COMPILER = ("build-essential", "python3-dev")
PYTHON: Mapping[str, tuple[str, ...]] = {
    "mysqlclient": (*_COMPILER, "pkg-config", _MYSQL),
    "psycopg2": (*_COMPILER, "libpq-dev"),
    "pycairo": (*_COMPILER, "pkg-config", "libcairo2-dev"),
    "python-ldap": (*_COMPILER, "libldap-dev", "libsasl2-dev"),
    "uwsgi": _COMPILER,
}
# The compiler is there for every project with a Gemfile.
RUBY: Mapping[str, tuple[str, ...]] = {
    "mysql2": (_MYSQL,),
    "pg": ("libpq-dev",),
    "psych": ("libyaml-dev",),
    "rails": ("libyaml-dev",),  # by way of rdoc and psych, of which it wants a newer one than Ruby has
    "rmagick": ("libmagickwand-dev",),
    "sqlite3": ("libsqlite3-dev",),
}


def propose_headers(
    project: Project, found: Findings, files: Iterable[str], needs: Mapping[str, tuple[str, ...]]
) -> None:
    """Propose what the packages that are named in `files` are compiled with, as `needs` has it."""
    for name in files:
        text = (project.text(name) or "")[:500_000]
        # A requirement, a key or a string of TOML, a `gem`, or a line of a lock file; `psycopg2-binary` is another one.
        words = set(re.findall(r"""(?m)(?:^[ \t]*|["'])([A-Za-z][A-Za-z0-9_.-]{1,60})(?![\w.-])""", text))
        for package in sorted({word.lower() for word in words} & set(needs)):
            for wanted in needs[package]:
                found.propose("packages", wanted, f"to compile {package}, from {name}")
