"""`sandbox doctor --attack`: the attempts of `engine/attacks` on this host, and what the report says of the host."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.clones.git import run_git
from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.attacks.run import Wanted
    from engine.cache.store import Store
    from engine.state.layout import Layout

_ROOT = Path(__file__).parents[2]
_CARRIERS = {"passt": "passt, in a network namespace with nothing but the gateway", "user": "QEMU's user network"}


def attack(
    layout: Layout, wanted: Wanted, environment: Mapping[str, str], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Try them, and return the report as JSON has it (`engine/attacks/page.py`).

    `environment` is the user's. Only the cache of `layout` is used. Raises EngineError if it cannot be tried here.
    """
    from engine.attacks.page import to_json
    from engine.attacks.run import run_attacks

    code = commit_of(_ROOT)
    report = to_json(run_attacks(wanted, environment, layout.cache, tell))
    report["host"] |= code
    return report


def commit_of(root: Path) -> dict[str, str]:
    """Which code runs, where `root` is a work tree of git: runs of different code are different runs. Takes 50 ms."""
    if not (root / ".git").exists():
        return {}
    own = ["-c", "safe.directory=*"]  # an ordinary user may run what root has checked out
    try:
        commit = run_git([*own, "rev-parse", "--short=12", "HEAD"], root).stdout.decode().strip()
        changed = run_git([*own, "status", "--porcelain"], root).stdout
    except EngineError:
        return {"commit": "unknown"}
    return {"commit": commit + (", with changes that are not committed" if changed else "")}


async def describe_host(store: Store) -> dict[str, str]:
    """What of this host decides about the result, without its name and its paths. Takes about 200 ms."""
    from engine.build.foundation import load_verdict
    from engine.lifecycle.doctor import find_tools, try_mounts, try_network

    tools = find_tools(store)
    verdict = load_verdict(store)
    network = await try_network(tools)
    mounts = await try_mounts()
    programs = {tool.name: tool.version for tool in (tools.programs() if tools else ())}
    qemu = next((version for name, version in programs.items() if name.startswith("qemu-system")), "unknown")
    return {
        "sandbox": importlib.metadata.version("sandboxfile"),
        "QEMU": qemu,
        "accelerator": verdict.accelerator if verdict else "unknown",
        "network of guests": _CARRIERS.get(network.by, network.by) if network else "unknown",
        "file servers confined by": mounts.by or "nothing",
    }
