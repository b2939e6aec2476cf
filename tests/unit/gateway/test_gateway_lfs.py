"""Batch requests of LFS: downloads go on, and nothing that a server could read as an upload."""

from __future__ import annotations

import json

import pytest

from engine.gateway.body_checks import BodyRefused, HeldBody
from engine.gateway.lfs import LfsDownloads

DOWNLOAD = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": "a" * 64, "size": 3}]}


def judge(body: bytes, piece: int = 7) -> None:
    held = HeldBody((LfsDownloads(),), [])
    for at in range(0, len(body), piece):
        held.feed(body[at : at + piece])
        assert not held.open  # before its end nobody knows
    held.end()
    assert held.open and held.data == body


def test_a_download_goes_on() -> None:
    judge(json.dumps(DOWNLOAD).encode())
    judge(json.dumps(DOWNLOAD, indent=2).encode(), piece=1)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(DOWNLOAD | {"operation": "upload"}),
        json.dumps(DOWNLOAD | {"operation": "Download"}),
        json.dumps(DOWNLOAD | {"operation": ["download"]}),
        json.dumps(DOWNLOAD | {"Operation": "upload"}),
        '{"operation": "upload", "operation": "download"}',
        '{"operation": "download", "operation": "upload"}',
        '{"operation": "download", "OPERATION": "upload"}',
        '{"Operation": "download"}',
        '{"\\u006fperation": "download", "operation": "upload"}',
        '{"operation": "download"} {"operation": "upload"}',
        '{"operation": "download", "size": NaN}',
        '[{"operation": "download"}]',
        '{"objects": {"operation": "download"}}',
        "[" * 100_000,
        "",
        "\ufeff{}",
    ],
)
def test_anything_else_is_refused(body: str) -> None:
    with pytest.raises(BodyRefused):
        judge(body.encode(), piece=1 << 16)


def test_what_is_no_utf8_is_refused() -> None:
    with pytest.raises(BodyRefused):
        judge(json.dumps(DOWNLOAD).encode("utf-16"))
