"""The registries' clients as processes: stand-ins on PATH."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.resolve import clients, registries


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    registries.forget()
    yield tmp_path / "npm"
    registries.forget()


def install(client: Path, script: str) -> None:
    client.write_text(f"#!/bin/sh\n{script}\n")
    client.chmod(0o755)


def test_a_client_runs_once_away_from_the_project(
    client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    install(client, f'echo "$PWD $*" >> {tmp_path}/calls; echo warning >&2; echo https://npm.example/')
    for _ in range(2):
        assert registries.resolve_group("npm", guest_clients=None).urls == ("https://npm.example",)
    assert (tmp_path / "calls").read_text() == "/ config get registry\n"


@pytest.mark.parametrize("script", ["echo https://npm.example/; exit 1", "exec sleep 30"])
def test_a_client_that_fails_or_hangs_counts_as_missing(
    client: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_CLIENT_TIMEOUT_S", 0.2)
    install(client, script)
    with pytest.raises(clients.RegistryError):
        registries.resolve_group("npm", guest_clients=None)
