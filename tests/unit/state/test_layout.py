"""Where things live, and that nobody is tricked into another place."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs
import pytest

from engine.errors import EngineError
from engine.gateway.doors import Door
from engine.state import roots
from engine.state.layout import Layout, habits_file
from engine.state.roots import SOCKET_PATH_MAX, platform_root, root_of
from engine.state.state_page import PATHS, with_rows
from vmm.spec import LAST_OWN_ADDRESS
from vmm.unix_socket import PATH_MAX

KEY = "0123456789abcdef0123456789abcdef"
DOC = Path(__file__).parents[3] / "docs" / "state.md"


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


def test_default_roots_raise_in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SANDBOX_CACHE_DIR")
    with pytest.raises(pytest.fail.Exception, match="own cache directory"):
        Layout.from_environment(os.environ)


def test_roots_come_from_the_platform_without_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "platform_root", lambda root: f"{tmp_path}/platform-{root}")
    (tmp_path / "run").mkdir(mode=0o700)
    layout = Layout.from_environment({"XDG_RUNTIME_DIR": str(tmp_path / "run")})
    assert layout.cache == tmp_path / "platform-cache"
    assert layout.state == tmp_path / "platform-state"
    assert layout.runtime == tmp_path / "run" / "sandbox"
    assert layout.config == tmp_path / "platform-config"


@pytest.mark.parametrize("home", ["/home/me", "/home/me/", "/", "relative", ""])
@pytest.mark.parametrize("given", [None, "", "/elsewhere", "relative", "/else where/"])
def test_the_platforms_places_are_those_of_platformdirs(
    home: str, given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", home)
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
        if given is not None:
            monkeypatch.setenv(variable, given)
    assert Path(platform_root("cache")) == platformdirs.user_cache_path("sandbox", appauthor=False)
    assert Path(platform_root("state")) == platformdirs.user_state_path("sandbox", appauthor=False)
    assert Path(platform_root("config")) == platformdirs.user_config_path("sandbox", appauthor=False)


def test_a_runtime_directory_that_is_not_there_is_not_used(tmp_path: Path) -> None:
    assert root_of("runtime", {"XDG_RUNTIME_DIR": str(tmp_path / "gone")}) == f"/tmp/sandbox-{os.getuid()}"


def test_overrides_must_be_absolute() -> None:
    with pytest.raises(EngineError, match="SANDBOX_STATE_DIR must be an absolute path"):
        Layout.from_environment({**os.environ, "SANDBOX_STATE_DIR": "here"})


def test_a_child_process_finds_the_same_roots(layout: Layout) -> None:
    assert Layout.from_environment(layout.to_environment()) == layout


def test_each_root_says_what_it_is(layout: Layout) -> None:
    for root in (layout.cache, layout.state, layout.runtime):
        assert len((root / "README").read_text()) > 50
    assert layout.state.stat().st_mode & 0o077 == 0
    assert layout.runtime.stat().st_mode & 0o077 == 0


def test_a_runtime_directory_open_to_others_is_refused(layout: Layout) -> None:
    layout.runtime.chmod(0o770)
    with pytest.raises(EngineError, match=r"entered by others \(mode 770\)") as caught:
        layout.prepare()
    assert caught.value.hint == f"chmod 700 {layout.runtime}"


def test_a_symlink_as_runtime_directory_is_refused(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "link").symlink_to(layout.runtime)
    with pytest.raises(EngineError, match="not a directory of yours"):
        Layout(layout.cache, layout.state, tmp_path / "link").prepare()


def test_a_runtime_directory_of_somebody_else_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: layout.runtime.stat().st_uid + 1)
    with pytest.raises(EngineError, match="not a directory of yours"):
        layout.prepare()


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match=r"cannot use .*/file") as caught:
        Layout(tmp_path / "file" / "cache", layout.state, layout.runtime).prepare()
    assert "SANDBOX_CACHE_DIR" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "/etc", "A", "-x", ".build-1", "a\n", "x" * 65])
def test_no_name_leads_out_of_the_roots(layout: Layout, name: str) -> None:
    with pytest.raises(EngineError, match="not a sandbox name"):
        layout.instance(name)
    with pytest.raises(EngineError):
        layout.instance_lock(name)


@pytest.mark.parametrize(("kind", "key"), [("..", KEY), ("tmp", KEY), ("locks", KEY), ("disk", "../x"), ("disk", "")])
def test_no_entry_leads_out_of_the_cache(layout: Layout, kind: str, key: str) -> None:
    with pytest.raises(EngineError):
        layout.entry(kind, key)


def test_socket_paths_fit_the_operating_system(tmp_path: Path) -> None:
    short = Layout(tmp_path, tmp_path, Path("/run/user/4294967294/sandbox"))
    assert len(str(short.instance("x" * 64).sockets.control)) <= SOCKET_PATH_MAX
    assert short.instance("x" * 64).sockets.control != short.instance("x" * 63).sockets.control
    assert short.instance("x" * 24).sockets.directory.name == "x" * 24
    long = Layout(tmp_path, tmp_path, Path("/run") / ("d" * 90))
    with pytest.raises(EngineError, match="path of a socket is too long") as caught:
        _ = long.instance("shop").sockets.control
    assert "SANDBOX_RUNTIME_DIR" in str(caught.value.hint)


def test_what_the_layout_allows_can_be_bound() -> None:
    assert SOCKET_PATH_MAX <= PATH_MAX


def test_every_path_is_in_the_list(layout: Layout) -> None:
    instance, build = layout.instance("shop"), layout.build_sockets("cafe")
    fork, kept = layout.fork(KEY), layout.snapshot("tested")
    entry = layout.entry("disk", KEY)
    paths = [
        entry,
        layout.entry_record(entry),
        layout.entry_marker(entry),
        layout.entry_files(entry),
        layout.temporary_entry("disk", KEY, "cafe"),
        layout.hold("cafe"),
        layout.removal_lock,
        layout.noted_state("cafe"),
        layout.entry_lock("disk", KEY),
        layout.entry_lock_owner("disk", KEY),
        instance.directory,
        instance.configuration,
        *(
            getattr(instance, name)
            for name in ("record", "supervisor_log", "console_log", "journal", "disk", "troubles")
        ),
        *instance.paused.machine,
        *(instance.paused.launch, instance.paused.temporary, instance.paused.authority, instance.pausing.directory),
        *(instance.stopped.directory, instance.stopping.directory),
        instance.old_console_log,
        instance.journal.with_name("journal.jsonl.1"),
        instance.next_disk,
        instance.free_layer(),
        fork.directory / instance.free_layer().name,
        *(fork.disk, fork.held, *fork.aside.machine, fork.aside.launch, fork.aside.temporary, fork.aside.authority),
        layout.forks_lock,
        *(kept.directory, kept.record, kept.configuration, kept.held),
        layout.failed("shop").directory,
        *(log.with_suffix(".old.log") for log in (instance.supervisor_log, instance.console_log)),
        *(getattr(instance.ssh, name) for name in ("host_key", "identity", "public_identity", "known_hosts", "config")),
        layout.ssh_config,
        layout.instance_lock("shop"),
        layout.project_plan(Path("/src/shop")),
        layout.project_plan(Path("/src/shop"), "claude"),
        layout.project_seen(Path("/src/shop")),
        layout.project_kept(Path("/src/shop"), "shop"),
        layout.remembered("0" * 16),
        layout.approval(Path("/src/shop/Sandboxfile.yaml")),
        layout.secrets,
        layout.secrets_lock,
        layout.secret_settings,
        habits_file(layout.to_environment()),
        *(layout.config / "agents" / "mine" / name for name in ("agent.yaml", "Sandboxfile.yaml")),
        instance.sockets.control,
        instance.sockets.directory / Door(LAST_OWN_ADDRESS, 65535, "x").socket_name,
        instance.sockets.mount(3),
        instance.sockets.mount(3).with_suffix(""),
        layout.waker("shop") / "ports.sock",
        build.directory,
    ]
    known = [
        re.compile(re.sub(r"<[a-z]+>", r"[^/]+", re.escape(f"{getattr(layout, root)}/{path}").rstrip("/")))
        for root, path, _, _ in PATHS
    ]
    for path in paths:
        assert any(pattern.fullmatch(str(path)) for pattern in known), path
    used = {pattern.pattern for pattern in known for path in paths if pattern.fullmatch(str(path))}
    assert len([pattern for pattern in known if not pattern.pattern.endswith("README")]) == len(used)


def test_the_document_mirrors_the_list() -> None:
    page = DOC.read_text()
    assert with_rows(page) == page, "python -m engine.state.state_page docs/state.md"
