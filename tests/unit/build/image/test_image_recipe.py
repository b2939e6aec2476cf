"""The recipe as data: its key, its inputs, its progress, its errors, and where it may run."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from engine.build.image import ImageError, build, builder, load_image, native, recipe
from engine.build.image.recipe import RecipeProgress, host_certificates, image_key, mmdebstrap_arguments, write_inputs
from engine.resolve import clients
from engine.resolve.debian import DebianMirrors

MIRRORS = DebianMirrors("http://mirror.example/debian", "https://security.example:8443/debian")


def test_the_key_follows_packages_scripts_certificates_and_tools(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(recipe, "host_certificates", lambda: {})
    monkeypatch.setattr(recipe, "mirror_settings", lambda: {})
    key, inputs = image_key("toolchain-1")
    assert image_key("toolchain-1") == (key, inputs)
    keys = {key, image_key("toolchain-2")[0]}
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "GUEST_PACKAGES", ("git",))
        keys.add(image_key("toolchain-1")[0])
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "mirror_settings", lambda: {"Acquire::Check-Date": "false"})
        keys.add(image_key("toolchain-1")[0])
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "host_certificates", lambda: {"corp.crt": b"one"})
        keys.add(image_key("toolchain-1")[0])
        patch.setattr(recipe, "host_certificates", lambda: {"corp.crt": b"two"})
        keys.add(image_key("toolchain-1")[0])
    with monkeypatch.context() as patch:
        for name in recipe.SCRIPTS:
            shutil.copy(Path(recipe.__file__).with_name(name), tmp_path / name)
        (tmp_path / "hook-base.sh").write_text("#!/bin/sh\n")
        patch.setattr(recipe, "__file__", str(tmp_path / "recipe.py"))
        keys.add(image_key("toolchain-1")[0])
    assert len(keys) == 7


def test_the_arguments_are_the_same_wherever_it_is_built() -> None:
    arguments = mmdebstrap_arguments("amd64", {"Acquire::Check-Date": "false"})
    assert "--mode=root" in arguments and "--variant=minbase" in arguments
    assert '--aptopt=Acquire::Check-Date "false"' in arguments
    assert arguments[-3:] == ["trixie", "/scratch/root", "/build/sources.list"]
    base, packages = (index for index, word in enumerate(arguments) if word.startswith("--customize-hook="))
    # The container base image is packed before the guest's packages go in.
    assert "hook-base" in arguments[base] and "hook-packages" in arguments[packages]


def test_the_inputs_are_written_for_the_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "mirror_settings", lambda: {})
    write_inputs(tmp_path, ["deb http://mirror.example/debian trixie main"], {"corp.crt": b"certificate"})
    assert (tmp_path / "certificates/corp.crt").read_bytes() == b"certificate"
    assert (tmp_path / "sources.list").read_text() == "deb http://mirror.example/debian trixie main\n"
    assert "docker.io" in (tmp_path / "packages").read_text().splitlines()
    assert all(os.access(tmp_path / name, os.X_OK) for name in recipe.SCRIPTS)


def test_only_certificates_are_taken_from_the_host(tmp_path: Path) -> None:
    (tmp_path / "b.crt").write_bytes(b"b")
    (tmp_path / "a.crt").write_bytes(b"a")
    (tmp_path / "notes.txt").write_bytes(b"x")
    (tmp_path / "dir.crt").mkdir()
    assert host_certificates(tmp_path) == {"a.crt": b"a", "b.crt": b"b"}
    assert host_certificates(tmp_path / "none") == {}


def test_progress_is_stages_and_counts() -> None:
    said: list[str] = []
    progress = RecipeProgress(said.append)
    progress("==> packing the image")
    for number in range(100):
        progress(f"Unpacking package{number} (1.0) ...")
        progress("Selecting previously unselected package x.")
    progress("I: extracting archives...")
    assert said == ["packing the image", "unpacked 50 packages", "unpacked 100 packages", "extracting archives"]


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("dpkg: error: No space left on device", "full"),
        ("E: Failed to fetch http://mirror.example/a.deb  Hash Sum mismatch", "again"),
        ("something else", None),
    ],
)
def test_a_failed_recipe_says_what_to_do(output: str, hint: str | None) -> None:
    error = native.explain("it failed", f"line\n\n{output}")
    assert error.details == f"line\n{output}"
    assert (error.hint is None) if hint is None else (error.hint is not None and hint in error.hint)


def test_the_builder_reaches_the_mirrors_and_nothing_else() -> None:
    policy = builder.mirror_policy(MIRRORS)
    assert policy.decide("mirror.example", 80).allowed
    assert policy.decide("security.example", 8443).allowed
    for host, port in (("mirror.example", 443), ("security.example", 80), ("other.example", 80)):
        assert not policy.decide(host, port).allowed


def test_the_builder_knows_the_mirrors_names(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    builder._write_hosts(tmp_path, builder.mirror_policy(MIRRORS))
    assert (tmp_path / "etc/hosts").read_text().splitlines() == [
        "127.0.0.1 localhost",
        "10.0.2.100 mirror.example",
        "10.0.2.100 security.example",
    ]


def test_the_builders_result_is_three_files_by_name(tmp_path: Path) -> None:
    disk, output = tmp_path / "disk", tmp_path / "out"
    output.mkdir()
    with tarfile.open(disk, "w") as archive:
        for name in (*builder.FILES, "../../escape"):
            (tmp_path / "file").write_text(name)
            archive.add(tmp_path / "file", name)
    with disk.open("ab") as stream:
        stream.write(bytes(1 << 20))  # the rest of the disk
    builder._read_output(disk, output)
    assert sorted(path.name for path in output.iterdir()) == sorted(builder.FILES)
    assert (output / "root.erofs").read_text() == "root.erofs"


def test_an_empty_result_disk_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    with pytest.raises(ImageError, match="cannot be read"):
        builder._read_output(tmp_path / "disk", tmp_path)


def test_a_user_needs_more_ids_and_memory_to_build_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {"unshare", "newuidmap"}
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in programs else None)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or 1000)
    monkeypatch.setattr(native.pwd, "getpwuid", lambda number: type("User", (), {"pw_name": "somebody"}))
    monkeypatch.setattr(native, "_has_ids", lambda name, file: True)
    monkeypatch.setattr(native, "_free_memory", lambda: native.MEMORY_NEEDED)
    prefix = native.native_prefix()
    assert prefix is not None and "--map-auto" in prefix and "--kill-child" in prefix
    monkeypatch.setattr(native, "_free_memory", lambda: native.MEMORY_NEEDED - 1)
    assert native.native_prefix() is None
    monkeypatch.setattr(native, "_free_memory", lambda: native.MEMORY_NEEDED)
    programs.remove("newuidmap")
    assert native.native_prefix() is None


def test_ids_are_read_from_subuid(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("other:100000:65536\nsmall:165536:1000\nbroken\nsomebody:231072:65536\n")
    assert native._has_ids("somebody", file)
    assert not native._has_ids("small", file)
    assert not native._has_ids("nobody", file)
    assert not native._has_ids("somebody", tmp_path / "none")


def test_an_unfinished_image_is_none(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no complete guest image"):
        load_image(tmp_path)
    (tmp_path / build.PACKAGES).write_text("git\t1:2.47.3-0\n")
    (tmp_path / clients.GUEST_CLIENTS).write_text('{"npm": ["https://npm.example/"]}')
    image = load_image(tmp_path)
    assert image.packages == (("git", "1:2.47.3-0"),)
    assert image.root == tmp_path / "root.erofs"
