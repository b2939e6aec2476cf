"""A start that failed leaves something for a look, of the last few only; an interrupted one leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.build.blueprint import Blueprint, Built
from engine.errors import EngineError
from engine.guest.identity import Identity
from engine.lifecycle import start
from engine.lifecycle.supervised import Supervisor
from engine.state import evidence
from engine.state.evidence import MOST, find_evidence, keep_evidence
from engine.state.instances import Instance, load_instance, save_instance
from engine.state.layout import Layout
from engine.supervisor.launch import Launch
from sandboxfile import load
from vmm.snapshot import Shape

Start = Callable[..., str]


@pytest.fixture
def layout() -> Layout:
    return Layout.from_environment(os.environ)


def leave(layout: Layout, name: str, project: str = "/src/shop") -> Path | None:
    save_instance(layout, Instance(name, project, "f", "0", "2026-01-01T00:00:00+00:00", "failed"))
    paths = layout.instance(name)
    paths.console_log.write_text(f"console of {name}\n")
    paths.old_console_log.write_text("older\n")
    paths.journal.with_name("journal.jsonl.1").write_text("{}\n")
    paths.disk.write_text("not for a look")
    return keep_evidence(layout, name)


def test_what_is_kept(layout: Layout) -> None:
    kept = leave(layout, "shop")
    assert kept == layout.failed("shop").directory == layout.state / "failed" / "shop"
    names = ["console.log", "console.old.log", "instance.json", "journal.jsonl.1"]
    assert sorted(path.name for path in kept.iterdir()) == names
    assert kept.stat().st_mode & 0o077 == 0
    assert [path.name for path in layout.instance("shop").directory.iterdir()] == ["disk.qcow2"]
    # The next one of that name replaces it.
    layout.instance("shop").console_log.write_text("second\n")
    assert keep_evidence(layout, "shop") == kept
    assert {path.name: path.read_text() for path in kept.iterdir()} == {"console.log": "second\n"}


def test_where_there_is_nothing_nothing_is_replaced(layout: Layout) -> None:
    leave(layout, "shop")
    layout.instance("shop").supervisor_log.touch()
    assert keep_evidence(layout, "shop") is None
    assert layout.failed("shop").console_log.exists()


def test_only_the_last_few(layout: Layout) -> None:
    for number in range(MOST + 3):
        kept = leave(layout, f"shop-{number}")
        assert kept is not None
        os.utime(kept, ns=(number, number))
    assert sorted(path.name for path in layout.all_failed.iterdir()) == [f"shop-{number}" for number in range(3, 8)]


def test_of_a_long_file_the_end(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "LIMIT", 4)
    leave(layout, "shop")
    assert layout.failed("shop").console_log.read_text() == "hop\n"


def newest(layout: Layout, name: str | None, directory: str) -> str:
    found = find_evidence(layout, name, Path(directory))
    assert found is not None and found[1].directory == layout.failed(found[0]).directory
    return found[0]


def test_finding_it(layout: Layout) -> None:
    assert find_evidence(layout, None, Path("/src/shop")) is None
    for number, (name, project) in enumerate([("one", "/src/shop"), ("two", "/src/shop"), ("other", "/src/other")]):
        kept = leave(layout, name, project)
        assert kept is not None
        os.utime(kept, ns=(number, number))
    for directory in ("/src/shop", "/src/shop/deep/below"):
        assert newest(layout, None, directory) == "two"
    assert newest(layout, "other", "/") == "other"
    assert find_evidence(layout, "gone", Path("/src/shop")) is None
    assert find_evidence(layout, None, Path("/src")) is None
    layout.failed("two").record.write_text("{")
    assert newest(layout, None, "/src/shop") == "one"


# -- a real supervisor, whose tools are not there


@pytest.fixture
def project(tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Built]:
    (tmp_path / "Sandboxfile.yaml").write_text('version: "1"\nname: shop\n')
    blueprint = Blueprint.of(load(tmp_path / "Sandboxfile.yaml"), layout)
    launch = Launch(
        name="shop",
        roots=layout.to_environment(),
        toolchain=str(tmp_path / "gone"),
        root="",
        initrd="",
        shape=Shape("tcg", 1, 1, "10"),
        snapshot="",
        mounts=(),
        rules=(),
        forwards=(),
        identity=Identity("shop"),
        services=(),
        late=(),
        project_name="shop",
        compose=None,
    )
    monkeypatch.setattr(start, "_launch", lambda *parts: launch)
    yield Built(blueprint, {"image": tmp_path})


def begin(built: Built, **options: bool) -> EngineError:
    with pytest.raises(EngineError) as caught:
        asyncio.run(start.start(built, "shop", lambda line: None, **options))
    return caught.value


def test_a_failed_start_names_what_it_left(project: Built, layout: Layout) -> None:
    error = begin(project)
    assert "could not be started" in error.brief
    assert str(error.hint) == (
        f"console, journal and log of this start are in {layout.state}/failed/shop; "
        "`sandbox console shop` shows the first"
    )
    assert "could not be started" in layout.failed("shop").supervisor_log.read_text()
    assert load_instance(layout, "shop") is None and not layout.instance("shop").directory.exists()


def test_kept_it_is_a_sandbox_that_has_failed(project: Built, layout: Layout) -> None:
    error = begin(project, keep_failed=True)
    assert f"it is kept in {layout.instance('shop').directory}: `sandbox console shop`" in str(error.hint)
    record = load_instance(layout, "shop")
    assert record is not None and record.state == "failed" and "could not be started" in str(record.error)
    assert not layout.all_failed.exists()


def test_what_was_interrupted_leaves_nothing(project: Built, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act() -> None:
        task = asyncio.create_task(start.start(project, "shop", lambda line: None))

        async def sent(self: Supervisor, launch: Launch) -> None:
            os.kill(self.pid, signal.SIGSTOP)  # so that it cannot fail first
            task.cancel()
            await asyncio.sleep(0)
            os.kill(self.pid, signal.SIGCONT)

        monkeypatch.setattr(Supervisor, "send", sent)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(act())
    assert not layout.all_failed.exists() and not layout.instance("shop").directory.exists()
