"""A registry of container images for Docker: what it is pushed it keeps in memory, for each of its names apart.

Each name has the image `tiny` from the beginning, with a layer that no other name has.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import uuid
from dataclasses import dataclass, field
from urllib.parse import parse_qs

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class ImageRegistry:
    """The distribution API, version 2, as far as `docker pull` and `docker push` use it."""

    def __init__(self) -> None:
        self._blobs: dict[tuple[str, str], bytes] = {}  # of a host, by digest
        self._manifests: dict[tuple[str, str, str], bytes] = {}  # of a host and an image, by tag and by digest
        self._uploads: dict[str, bytearray] = {}
        self._hosts: set[str] = set()

    def answer(self, host: str, method: str, path: str, query: str, body: bytes) -> Reply:
        if host not in self._hosts:
            self._hosts.add(host)
            self._add_tiny(host)
        words = path.removeprefix("/v2/").split("/")
        if words == [""]:
            return Reply(200, b"{}", {"docker-distribution-api-version": "registry/2.0"})
        if "manifests" in words[-2:]:
            return self._manifest(host, method, "/".join(words[:-2]), words[-1], body)
        if "uploads" in words[-2:]:
            name, upload = path.split("/blobs/uploads/")[0].removeprefix("/v2/"), words[-1]
            return self._upload(host, method, name, upload, parse_qs(query).get("digest", [""])[0], body)
        blob = self._blobs.get((host, words[-1]))
        return Reply(404) if blob is None else Reply(200, blob, {"docker-content-digest": words[-1]})

    def _manifest(self, host: str, method: str, name: str, reference: str, body: bytes) -> Reply:
        if method == "PUT":
            for key in (reference, digest(body)):
                self._manifests[host, name, key] = body
            return Reply(201, b"", {"docker-content-digest": digest(body), "location": f"/v2/{name}/{digest(body)}"})
        found = self._manifests.get((host, name, reference))
        if found is None:
            return Reply(404)
        kind = json.loads(found).get("mediaType", MANIFEST)
        return Reply(200, found, {"content-type": kind, "docker-content-digest": digest(found)})

    def _upload(self, host: str, method: str, name: str, upload: str, expected: str, body: bytes) -> Reply:
        if method == "POST":
            upload = uuid.uuid4().hex
        content = self._uploads.setdefault(upload, bytearray())
        content += body
        if method == "PUT":
            blob = bytes(self._uploads.pop(upload))
            if digest(blob) != expected:
                return Reply(400)
            self._blobs[host, expected] = blob
            return Reply(201, b"", {"docker-content-digest": expected, "location": f"/v2/{name}/blobs/{expected}"})
        said = {"location": f"/v2/{name}/blobs/uploads/{upload}", "range": f"0-{max(len(content) - 1, 0)}"}
        return Reply(202, b"", {**said, "docker-upload-uuid": upload})

    def _add_tiny(self, host: str) -> None:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            archive.addfile(tarfile.TarInfo(f"made-for-{host}"))
        packed = gzip.compress(made.getvalue(), mtime=0)
        rootfs = {"type": "layers", "diff_ids": [digest(made.getvalue())]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
        parts = [
            {"mediaType": kind, "size": len(blob), "digest": digest(blob)}
            for kind, blob in ((CONFIG, config), (LAYER, packed))
        ]
        for blob in (config, packed):
            self._blobs[host, digest(blob)] = blob
        said = {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
        self._manifest(host, "PUT", "tiny", "latest", json.dumps(said).encode())


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
