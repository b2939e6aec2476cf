"""The toolchain's key, the host's own tools, and directories that hold no toolchain. No process is started."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from engine.build.toolchain import ToolchainError, load_toolchain, system, system_tools, toolchain_key
from engine.build.toolchain.recipe import ARCHITECTURES, architecture, programs

ANSWERS = {
    "qemu-system-x86_64": "QEMU emulator version 10.0.13 (Debian 1:10.0.13)",
    "qemu-img": "qemu-img version 10.0.13 (Debian 1:10.0.13)",
    "mkfs.erofs": "mkfs.erofs (erofs-utils) 1.8.6\navailable compressors: lz4",
    "mkfs.ext4": "mke2fs 1.47.2 (1-Jan-2025)",
    "nc": "OpenBSD netcat (Debian patchlevel 1.229-1)\nusage: nc [-46CDdFhklNnrStUuvZz] [-I length]",
    "passt": "passt 2025_05_03.587980c",
}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory of programs that stands for the whole host; each answers with the text of its file."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(system, "ELSEWHERE", ())
    monkeypatch.setattr(system, "clean_environment", lambda: {"PATH": str(tmp_path)})
    monkeypatch.setattr(system, "_ask", lambda path, argument: Path(path).read_text() or None)
    for name, answer in ANSWERS.items():
        (tmp_path / name).write_text(answer)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_a_complete_new_enough_host_is_used(host: Path) -> None:
    tools = system_tools()
    assert tools is not None
    assert {field: tool.version for field, tool in tools.items()} == {
        "qemu": "10.0.13",
        "qemu_img": "10.0.13",
        "mkfs_erofs": "1.8.6",
        "mkfs_ext4": "1.47.2",
        "connect": "1.229",
        "passt": "unknown",
    }
    assert all(tool.origin == "system" for tool in tools.values())


def test_a_host_without_passt_is_complete(host: Path) -> None:
    """Its guests have QEMU's user network (vmm/carrier.py)."""
    (host / "passt").unlink()
    tools = system_tools()
    assert tools is not None and "passt" not in tools


@pytest.mark.parametrize("missing", sorted(set(ANSWERS) - {"passt"}))
def test_an_incomplete_host_is_not(host: Path, missing: str) -> None:
    (host / missing).unlink()
    assert system_tools() is None


@pytest.mark.parametrize("version", ["7.2.22", "9.2.4", "unknown"])
def test_an_old_qemu_is_not(host: Path, version: str) -> None:
    (host / "qemu-system-x86_64").write_text(f"QEMU emulator version {version}")
    assert system_tools() is None


def test_a_netcat_that_cannot_end_a_connection_is_not(host: Path) -> None:
    (host / "nc").write_text("usage: nc [-46bCDdhjklnrSstUuvz] [-I length]")
    assert system_tools() is None


def test_a_program_that_does_not_run_is_missing(host: Path) -> None:
    (host / "qemu-img").write_text("")
    assert system_tools() is None


def test_the_key_is_stable_and_names_its_inputs(host: Path) -> None:
    key, inputs = toolchain_key()
    assert toolchain_key() == (key, inputs)
    assert inputs["suite"] == "trixie"
    assert "system qemu-system-x86_64" in inputs


def test_a_program_is_asked_once(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `up` makes the key many times; 54 programs were started for one."""
    asked: list[str] = []
    monkeypatch.setattr(system, "_ask", lambda path, argument: asked.append(path) or Path(path).read_text())
    keys = {toolchain_key()[0] for _ in range(9)}
    assert len(keys) == 1 and len(asked) == len(set(asked)) == len(ANSWERS)


def test_the_key_follows_the_tools_of_the_host(host: Path) -> None:
    before, _ = toolchain_key()
    (host / "qemu-img").write_text("qemu-img version 10.0.14")
    changed, _ = toolchain_key()
    (host / "qemu-img").unlink()
    private, inputs = toolchain_key()
    assert len({before, changed, private}) == 3
    assert "qemu-utils" in inputs["packages"]


@pytest.mark.parametrize("machine", sorted(ARCHITECTURES))
def test_each_architecture_has_every_program(machine: str) -> None:
    names = set(programs(ARCHITECTURES[machine]))
    assert names == {"qemu", "qemu_img", "mkfs_erofs", "mkfs_ext4", "connect", "passt"}


def test_an_unknown_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(ToolchainError, match="vax"):
        architecture()


def test_a_directory_that_was_not_finished_is_no_toolchain(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    with pytest.raises(ToolchainError, match="no complete toolchain"):
        load_toolchain(tmp_path)


def test_a_damaged_description_is_no_toolchain(tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text("{")
    with pytest.raises(ToolchainError, match="cannot be read"):
        load_toolchain(tmp_path)
