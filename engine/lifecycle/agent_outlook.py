"""Which agent a sandbox gets: its version, its packages with their digests, its size, and the hosts that it needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from engine.agents import load_agent
from engine.agents.outfit import goes_to
from engine.build.nodes.agent_layer import BY_REGISTRY, read_integrity
from engine.report.columns import align
from engine.report.text import clean_line
from sandboxfile.presets.expansion import hosts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.agents.definition import AgentDefinition
    from engine.build.blueprint import Blueprint
    from sandboxfile import Loaded

MB = 1_000_000
BY_LOCK = "named by its lock file"


@dataclass(frozen=True)
class PackageOutlook:
    """One package, or a list of them.

    `integrity` is its digest; None while only the registry knows it, and for a list, in which each has its own.
    `digest_from` says who named it. `size` is that of the download, in bytes; None before it.
    """

    title: str
    integrity: str | None
    digest_from: str
    size: int | None


@dataclass(frozen=True)
class HostOutlook:
    """A host that the agent needs, and whether the file lets it reach that."""

    host: str
    why: str
    allowed: bool


@dataclass(frozen=True)
class AgentOutlook:
    """`size` is what its layer takes on the disk, in bytes, once for all sandboxes; None before it is made."""

    name: str
    title: str
    version: str
    packages: tuple[PackageOutlook, ...]
    size: int | None
    hosts: tuple[HostOutlook, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def render(self) -> str:
        """A few lines: the agent, its packages, its hosts."""
        size = f", {self.size / MB:.0f} MB that all its sandboxes share" if self.size else ""
        rows = [("agent", f"{self.title} {self.version}{size}")]
        for package in self.packages:
            unknown = "each has its own" if package.digest_from == BY_LOCK else "asked for when it is fetched"
            digest = package.integrity or unknown
            loaded = f", {package.size / MB:.0f} MB" if package.size else ""
            rows.append(("package", f"{package.title}{loaded}; digest {package.digest_from}: {digest}"))
        for host in self.hosts:
            rows.append(("host", f"{host.host}: {host.why}{'' if host.allowed else '; no endpoint allows it'}"))
        return align([(name, clean_line(text)) for name, text in rows], indent="  ")


def look_at_agent(loaded: Loaded, blueprint: Blueprint) -> AgentOutlook | None:
    """None for a file without `agent.use`. Reads the cache, and asks nobody."""
    agent = loaded.sandbox.agent
    if agent is None or agent.use is None:
        return None
    definition = load_agent(agent.use)
    layer = next((node for node in blueprint.chain.graph.order() if node.kind == "agent-layer"), None)
    made = blueprint.store.entry(layer.kind, layer.key) if layer is not None else None
    return AgentOutlook(
        definition.name,
        definition.title,
        agent.version or definition.install.version,
        tuple(_packages(blueprint)),
        made.size if made is not None else None,
        tuple(_hosts(definition, loaded)),
    )


def _packages(blueprint: Blueprint) -> Iterator[PackageOutlook]:
    for node in blueprint.chain.graph.order():
        if node.kind not in ("agent-package", "agent-packages"):
            continue
        entry = blueprint.store.entry(node.kind, node.key)
        size = entry.size if entry is not None else None
        if node.kind == "agent-packages":
            yield PackageOutlook(node.title, None, BY_LOCK, size)
            continue
        integrity = node.inputs["integrity"]
        if integrity != BY_REGISTRY:
            yield PackageOutlook(node.title, integrity, "named by the definition", size)
        else:
            found = read_integrity(entry.path) if entry is not None else None
            yield PackageOutlook(node.title, found, "named by the registry", size)


def _hosts(definition: AgentDefinition, loaded: Loaded) -> Iterator[HostOutlook]:
    endpoints = [endpoint for endpoint in loaded.sandbox.endpoints if not endpoint.deny]
    allowed = tuple(host for one in endpoints for host in (one.host, *hosts_of(one)) if host is not None)
    for needed in definition.hosts:
        yield HostOutlook(needed.host, needed.why, goes_to(needed.host, allowed))
