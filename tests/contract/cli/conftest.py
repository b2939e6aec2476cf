"""Fixtures over `cli_world`."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import CommandLine, FakeSandbox, start_fake
from forks import ForkServer, start_fork_server

from engine.state.layout import Layout


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    with start_fork_server() as server:
        yield server


@pytest.fixture
def sandbox(tmp_path: Path, forks: ForkServer) -> CommandLine:
    return CommandLine(tmp_path, forks)


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


@pytest.fixture
def fake(sandbox: CommandLine, layout: Layout) -> Iterator[FakeSandbox]:
    """The sandbox `shop` of the project, as it is when it runs."""
    with start_fake(sandbox.forks, layout, sandbox.project, "shop") as running:
        yield running


@pytest.fixture
def me() -> str:
    """A user that the host has: there is no `agent` here."""
    return pwd.getpwuid(os.geteuid()).pw_name
