"""What a supervisor does with the values of its sandbox's secrets."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from engine.secrets import vault as vault_module
from engine.secrets.places import SecretPlaces
from engine.secrets.sources import Source
from engine.secrets.store import Store
from engine.state.layout import Layout
from engine.supervisor.adjustment import Adjustment
from engine.supervisor.launch import Launch
from engine.supervisor.vaults import open_vault

OLD, NEW = "old-value-0123456789", "new-value-0123456789"


@pytest.fixture(autouse=True)
def still_debuggable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "forbid_core_dumps", lambda: None)


def test_what_was_renewed_counts_at_once_and_is_kept_when_the_guest_is_answered() -> None:
    layout = Layout.from_environment(os.environ)
    store = Store(layout.secrets, layout.secrets_lock)
    for name in ("login", "login@refresh"):
        store.set(name, OLD)
    heard: list[str] = []
    places = SecretPlaces({name: (Source("keyring", name),) for name in ("login", "login@refresh")})

    async def scenario() -> None:
        vault = await open_vault(places, layout, heard.append)
        assert vault.value("login") == OLD
        await vault.keep({"login": NEW, "login@refresh": f"{NEW}-2", "unknown": NEW})
        await vault.keep({"login": "no\r\nheader"})
        assert heard[-1].startswith("what was renewed is lost: ")
        assert vault.value("login") == NEW and vault.value("login@refresh") == f"{NEW}-2"

    asyncio.run(scenario())
    assert store.get("login") == NEW and store.get("login@refresh") == f"{NEW}-2"
    assert not any(OLD in line or NEW in line for line in heard)


def test_what_travels_to_a_supervisor_shows_no_value() -> None:
    places = SecretPlaces({"a": (Source("env", "A"),)}, {"A": OLD}, {"b": NEW})
    assert OLD not in repr(places) and NEW not in repr(places)
    for kind in (Launch, Adjustment):  # and so neither does what has it
        assert kind.__dataclass_fields__["secrets"].type == "SecretPlaces"
    assert OLD in json.dumps(asdict(places)), "by the socket it has to get there"


def test_no_file_of_ours_has_a_value_that_is_not_kept(tmp_path: Path) -> None:
    layout = Layout.from_environment(os.environ)
    places = SecretPlaces({"a": (Source("env", "A"),)}, {"A": OLD})

    async def scenario() -> None:
        vault = await open_vault(places, layout, lambda text: None)
        await vault.keep({"a": NEW})
        assert vault.value("a") == NEW

    asyncio.run(scenario())
    files = [path for root in (layout.state, layout.cache, tmp_path) for path in root.rglob("*") if path.is_file()]
    assert not any(word.encode() in path.read_bytes() for path in files for word in (OLD, NEW))
