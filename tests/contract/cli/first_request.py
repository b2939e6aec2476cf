"""A program: what `up` does with a file and its secrets, without a machine, and one request of a guest.

`first_request.py [--yes]` asks as `up` does, reads the credentials, hands them on as `up` does to a supervisor, opens
a gateway with a vendor's server behind it, and prints what the guest held and the headers that the server got.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from engine.cli.asking.approval import ask_host_access, warn_of_credential
from engine.cli.boundary import guarded
from engine.decoding import decode
from engine.lifecycle.credentials import read_credentials
from engine.lifecycle.project_file import load_file
from engine.resolve.endpoints import Registries, endpoint_places
from engine.secrets.places import SecretPlaces
from engine.state.layout import Layout
from engine.supervisor.vaults import open_vault
from engine.trust import agreement as trust

HOST = "api.anthropic.com"


def run() -> None:
    loaded = load_file(None)
    layout = Layout.from_environment(os.environ)
    trust.agree(loaded, layout, ask_host_access, yes="--yes" in sys.argv, tell=warn_of_credential)
    credentials = read_credentials(loaded, layout)
    policy = Registries({}).policy(loaded.sandbox.endpoints, credentials.kinds, endpoint_places(loaded))
    places = decode(SecretPlaces, json.loads(json.dumps(asdict(credentials.places))))
    held = credentials.environment()["ANTHROPIC_API_KEY"]

    sys.path[:0] = [str(Path(__file__).parents[1] / "gateway")]
    from inside_world import CLOSE, fields_of, get, inside_world, server_authority

    async def ask() -> list[dict[str, list[str]]]:
        vault = await open_vault(places, layout, print)
        server = server_authority().context(HOST, "http/1.1")
        async with inside_world(*policy.rules, secrets=vault.value, server=server) as w:
            extra = f"x-api-key: {held}\r\nAuthorization: Bearer {held}\r\n{CLOSE}"
            answer = await w.ask(get("/v1/messages", extra, host=HOST), HOST)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            return [fields_of(head) for head in w.recorder.heads]

    print("GOT", json.dumps({"held": held, "requests": asyncio.run(ask())}))


if __name__ == "__main__":
    sys.exit(guarded(run))
