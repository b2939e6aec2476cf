"""The gateway of one sandbox: a listener for each of its doors, and everything that runs behind them.

The guest resolves every name to one address. Connections to port N at that address arrive at the listener for N: a
socket in the guest's own empty network (vmm/carrier.py), or a unix socket that QEMU's user network leads to.
TLS and plain HTTP share the listeners: the first byte tells them apart. What names no host has a door of its own.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.gateway import upstream
from engine.gateway.context import Context, Keep
from engine.gateway.doors import Addresses, Door
from engine.gateway.errors import GatewayError
from engine.gateway.guest_asks import GuestAsks
from engine.gateway.http import HttpSession
from engine.gateway.injection import Secrets
from engine.gateway.journal import Journal, JournalLine
from engine.gateway.limits import Limits
from engine.gateway.lookups import Lookups
from engine.gateway.pace import Pace
from engine.gateway.policy import Policy
from engine.gateway.proxies import Proxies
from engine.gateway.raw import serve_raw
from engine.gateway.rules import Rule
from engine.gateway.splice import close
from engine.gateway.tls import FIRST_BYTE, serve_tls
from engine.gateway.upstream import Connect, Resolver, Streams
from engine.gateway.waiting import Waiting
from vmm.connection import drop
from vmm.errors import VmmError
from vmm.spec import GATEWAY_ADDRESS
from vmm.unix_socket import bind_private

if TYPE_CHECKING:
    from engine.gateway.authority import Authority

_FILES_FOR_OTHERS = 128  # descriptors left to the rest of the process


class Gateway:
    """A running gateway. `doors` maps doors to socket paths."""

    def __init__(self, context: Context, addresses: Addresses | None = None) -> None:
        self.doors: dict[Door, Path] = {}
        self._listening: set[Door] = set()
        self._context = context
        self._addresses = addresses or Addresses()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._closing = False
        self._filed = context.policy
        self._temporary: tuple[Rule, ...] = ()
        self._pace = Pace()

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._context.policy

    @property
    def sockets(self) -> dict[int, Path]:
        """The sockets at the address that every name has, by the guest's port."""
        return {door.port: path for door, path in self.doors.items() if door.address == GATEWAY_ADDRESS}

    @property
    def names(self) -> dict[str, str]:
        """Host name -> address in the guest, of the names with an address of their own; for the guest's resolver."""
        return self._addresses.names(self.policy)

    @property
    def filed(self) -> Policy:
        """The policy without the temporary rules."""
        return self._filed

    @property
    def journal(self) -> Journal:
        return self._context.journal

    @property
    def waiting(self) -> Waiting:
        """The connections that wait for an answer of the user."""
        return self._context.waiting

    @property
    def asks(self) -> GuestAsks:
        """What the guest asks the user to allow."""
        return self._context.asks

    def accept_temporary(self) -> None:
        """From now on refusals name `sandbox allow`, which reaches this gateway through its owner."""
        self._context.changeable = True

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._tasks)

    def take_unnamed(self) -> list[tuple[str, int]]:
        """(host, port) of what was refused since the last call for want of a rule, each once, the first 50."""
        found = list(self._context.unnamed)
        self._context.unnamed.clear()
        return found

    @property
    def addresses(self) -> Mapping[str, str]:
        """Name -> address, of all names that have had one of their own in this guest."""
        return self._addresses.given

    @property
    def authority(self) -> Authority | None:
        """What mints the certificates of intercepted names."""
        return self._context.authority

    def arm(
        self, *, authority: Authority | None = None, secrets: Secrets | None = None, keep: Keep | None = None
    ) -> None:
        """Give it what the next policy needs: an authority that the guest trusts by now, where secrets come from, and
        what keeps those that are renewed."""
        if authority is not None:
            self._context.authority = authority
        if secrets is not None:
            self._context.secrets = secrets
        if keep is not None:
            self._context.keep = keep

    def pace(self, rate: int | None) -> None:
        """The guest may send and receive `rate` bytes per second from now on, None: as many as it can."""
        self._pace.rate = rate

    def set_policy(self, policy: Policy) -> tuple[int, ...]:
        """Judge by this policy from now on; connections that it does not allow are cut. Raises GatewayError as a start.

        Returns the ports that it needs and that have no listener: they come with the machine's next start.
        """
        doors = self._addresses.doors(policy)
        self._context.apply(Policy((*policy.rules, *self._temporary)))
        self._filed = policy
        missing = [door for door in doors if door not in self._listening]
        return tuple(sorted({door.port for door in missing if door.host or door.address == GATEWAY_ADDRESS}))

    def set_temporary(self, rules: Iterable[Rule]) -> int:
        """Judge by these rules beside the policy's, in the place of the last ones.

        Connections that are not allowed any more are cut; returns how many. Raises GatewayError, changing nothing.
        """
        rules = tuple(rules)
        cut = self._context.apply(Policy((*self._filed.rules, *rules)))
        self._temporary = rules
        return cut

    def _accept(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine, so that the task is ours from the start and not the stream library's."""
        if self._closing:  # accepted just before the listener closed
            drop(writer)
            return
        limit = self._context.limits.connections
        if len(self._tasks) >= limit:
            entry = JournalLine(port=door.port, verdict="refused", how="refuse", host=door.host or None)
            entry.reason = f"{limit} connections are open already"
            self._context.journal.write(entry)
            drop(writer)
            return
        streams = self._pace.over((reader, writer))
        task = asyncio.create_task(self._serve(streams, door), name=f"gateway connection to port {door.port}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours: the connection is gone, the gateway goes on, and the loop's handler gets the traceback.
            context = {"message": "gateway connection failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)

    async def _serve(self, guest: Streams, door: Door) -> None:
        try:
            if door.host:
                await serve_raw(self._context, guest, door)
            else:
                await self._serve_web(guest, door.port)
            await close(guest, self._context.limits)
        finally:
            drop(guest[1])

    async def _serve_web(self, guest: Streams, port: int) -> None:
        deadline = asyncio.get_running_loop().time() + self._context.limits.head_s
        first, why = await self._first_bytes(guest, deadline)
        if not first:
            self._context.journal.write(JournalLine(port=port, reason=why))
        elif first[0] == FIRST_BYTE:
            await serve_tls(self._context, guest, port, first, deadline)
        else:
            await HttpSession(self._context, guest, port, first).serve(deadline)

    async def _first_bytes(self, guest: Streams, deadline: float) -> tuple[bytes, str]:
        """What the guest says first, or nothing and why."""
        try:
            async with asyncio.timeout_at(deadline):
                return await guest[0].read(self._context.limits.head_bytes), "closed before it named a host"
        except TimeoutError:
            return b"", f"silent for {self._context.limits.head_s:g} s"
        except OSError:
            return b"", "broke off before it named a host"

    async def _listen(self, door: Door, directory: Path) -> None:
        path = directory / door.socket_name
        listener = _bind(path)
        try:
            server = await asyncio.start_unix_server(
                partial(self._accept, door),
                sock=listener,
                limit=self._context.limits.chunk_bytes,
                backlog=self._context.limits.connections,  # who comes when it is full gets an error, and does not wait
            )
        except BaseException:
            listener.close()
            path.unlink(missing_ok=True)
            raise
        self.doors[door] = path
        self._listening.add(door)
        self._servers.append(server)

    async def _take(self, door: Door, listener: socket.socket) -> None:
        server = await asyncio.start_server(
            partial(self._accept, door),
            sock=listener.dup(),
            limit=self._context.limits.chunk_bytes,
            backlog=self._context.limits.connections,
        )
        self._listening.add(door)
        self._servers.append(server)

    async def _close(self) -> None:
        self._closing = True
        for server in self._servers:
            server.close()
        for path in self.doors.values():
            path.unlink(missing_ok=True)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()


@asynccontextmanager
async def start_gateway(
    policy: Policy,
    directory: Path,
    journal: Journal,
    *,
    resolver: Resolver | None = None,
    connect: Connect | None = None,
    limits: Limits | None = None,
    secrets: Secrets | None = None,
    keep: Keep | None = None,
    authority: Authority | None = None,
    proxies: Proxies | None = None,
    waiting: Waiting | None = None,
    listeners: Mapping[tuple[str, int], socket.socket] | None = None,
    addresses: Mapping[str, str] | None = None,
) -> AsyncIterator[Gateway]:
    """Listen on a socket in `directory` (mode 0600) for each door that the policy needs; serve until the block ends.

    With `listeners`, sockets by the guest's address and port that remain the caller's, it uses those alone. `addresses`
    are those that names have in this guest already.

    At the end, also on cancellation, connections are cut, tasks awaited and sockets removed. `resolver` and `connect`
    replace the way out; the check of the addresses between the two stays. `proxies` are those that this host needs to
    get out. The journal remains the caller's to close.
    `secrets` gives the value of a secret at the moment of a request, `keep` takes those that are renewed. With an
    `authority` that the guest trusts, TLS is intercepted where the policy looks inside, and names that it refuses are
    told why. `waiting` holds connections while the user is asked about them.
    Raises GatewayError when a socket cannot be made, and for a policy that looks inside without an authority.
    """
    context = Context(
        policy=policy,
        journal=journal,
        resolver=resolver or Lookups().resolve,
        connect=connect or upstream.connect,
        connect_local=connect or upstream.connect_local,
        limits=_affordable(limits or Limits()),
        secrets=secrets or (lambda name: None),
        keep=keep,
        authority=authority,
        proxies=proxies or Proxies(),
        waiting=waiting or Waiting(),
    )
    context.require_authority(policy)
    gateway = Gateway(context, Addresses(addresses))
    try:
        for door in gateway._addresses.doors(policy):
            if listeners is None:
                await gateway._listen(door, directory)
            elif (listener := listeners.get((door.address, door.port))) is not None:
                await gateway._take(door, listener)  # a port without one comes with the machine's next start
        yield gateway
    finally:
        await gateway._close()


def _affordable(limits: Limits) -> Limits:
    """Fewer connections when the process may not open two descriptors for each: EMFILE would stall the listeners."""
    try:
        import resource
    except ImportError:
        return limits
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=min(limits.connections, max(1, (soft - _FILES_FOR_OTHERS) // 2)))


def _bind(path: Path) -> socket.socket:
    try:
        return bind_private(path)
    except VmmError as error:
        raise GatewayError(error.brief, error.details, error.hint) from error
    except OSError as error:
        raise GatewayError(f"cannot make the gateway's socket {path}", str(error)) from error
