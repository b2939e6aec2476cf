"""The host's proxies on their way to the supervisor: over its socket, and by no other way."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from engine.errors import EngineError
from engine.lifecycle import supervised, supervisor_process
from engine.state.layout import Layout
from engine.supervisor.launch import Launch

PASSWORD = "s3cret-of-the-proxy"
URL = f"http://me:{PASSWORD}@proxy.example.com:3128"


@pytest.fixture(autouse=True)
def proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, URL)
    monkeypatch.setenv("NO_PROXY", "corp.example")


def test_the_supervisors_environment_has_none() -> None:
    environment = supervisor_process.environment(Layout.from_environment(os.environ))
    assert PASSWORD not in json.dumps(environment) and "PATH" in environment


def test_a_launch_has_them_and_shows_none() -> None:
    values = {field.name: () for field in dataclasses.fields(Launch)} | {"proxies": supervised.host_proxies()}
    launch = Launch(**values)  # type: ignore[arg-type]
    assert json.loads(launch.to_json())["proxies"] == {"http": URL, "https": URL, "all": URL, "no": "corp.example"}
    assert PASSWORD not in repr(launch)


def test_what_is_no_proxy_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks4://me:{PASSWORD}@proxy.example.com")
    with pytest.raises(EngineError, match="ALL_PROXY names a proxy of the kind 'socks4'") as caught:
        supervised.host_proxies()
    assert PASSWORD not in str(caught.value)
