"""Which requirement of a Gemfile the machine's Ruby, 3.3.8, satisfies."""

from __future__ import annotations

from pathlib import Path

import pytest
from starter_conversion import written
from starter_world import look


@pytest.mark.parametrize(
    ("line", "file", "installs"),
    [
        ("ruby '3.3.8'", "", True),
        ("ruby '3.3.6'", "", False),
        ('ruby("3.3")', "", False),
        ("ruby '~> 3.3'", "", True),
        ("ruby '~> 3.3.2'", "", True),
        ("ruby '~> 3.2.0'", "", False),
        ("ruby '>= 3.2', '< 3.5'", "", True),
        ("ruby '>= 3.0', '< 3.3'", "", False),
        ("ruby '>= 3.4'", "", False),
        ('ruby file: ".ruby-version"', "ruby-3.3.8\n", True),
        ('ruby file: ".ruby-version"', "3.3.6\n", False),
        ("", "3.3.6\n", True),
        ("", "3.4.1\n", False),
        ("# ruby '3.3.6'", "", True),
    ],
)
def test_bundler_runs_where_it_would_accept_the_ruby(line: str, file: str, installs: bool, tmp_path: Path) -> None:
    written(tmp_path, {"Gemfile": f"source 'https://gems.example'\n{line}\ngem 'rack'\n", ".ruby-version": file}, "")
    [step] = [item for item in look(tmp_path).proposals if "bundle install" in str(item.value)]
    assert step.active is installs
    assert installs or "that Ruby is needed first" in step.remark
