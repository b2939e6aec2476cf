"""Where the guest finds the gateway: an address and a port in its network, and what is behind them.

Every name is the gateway's one address in the guest, since TLS and HTTP say themselves which host they want. Other
protocols do not: their names get an address each, and what comes to that address and port can only be for that name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.gateway.errors import GatewayError
from engine.gateway.policy import Policy
from vmm.spec import FIRST_OWN_ADDRESS, GATEWAY_ADDRESS, LAST_OWN_ADDRESS


@dataclass(frozen=True, order=True)
class Door:
    """Connections of the guest to `address`:`port`; whatever carries the guest's packets hands them to one listener.

    `host` is the one host that is behind it, with any protocol. Empty: what comes in names its host itself.
    """

    address: str
    port: int
    host: str = ""

    @property
    def socket_name(self) -> str:
        """The file name of the door's unix socket: short, since the path of a socket is."""
        if self.address == GATEWAY_ADDRESS:
            return f"gw-{self.port}.sock"
        return f"gw-{self.address.rpartition('.')[2]}-{self.port}.sock"


class Addresses:
    """The addresses of one guest's names. A name keeps its own, and no other name gets it later: the guest may remember
    an answer of its resolver for as long as it runs.
    """

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        """`given` are those that names have already, of the same guest before it was paused."""
        self._of: dict[str, str] = dict(given or {})

    @property
    def given(self) -> Mapping[str, str]:
        """Name -> address, of all names that have had one."""
        return self._of

    def doors(self, policy: Policy) -> tuple[Door, ...]:
        """All doors that the policy needs, sorted. Raises GatewayError when there are more names than addresses.

        At the address of its own a name can still be asked for by TLS and HTTP, at the ports that have nothing else.
        """
        raw = {(self._address_of(host), port): host for host, port in policy.raw_endpoints()}
        web = {
            (address, port)
            for address in (GATEWAY_ADDRESS, *(address for address, _ in raw))
            for port in policy.ports()
        }
        doors = {Door(*place, host) for place, host in raw.items()}
        return tuple(sorted(doors | {Door(*place) for place in web - raw.keys()}))

    def names(self, policy: Policy) -> dict[str, str]:
        """Host name -> address, of the names that the policy gives one of their own."""
        return {host: self._address_of(host) for host, _ in policy.raw_endpoints()}

    def _address_of(self, host: str) -> str:
        if host not in self._of:
            free = next(_own_addresses(len(self._of)), None)
            if free is None:
                raise GatewayError(
                    f"no address is left for {host}: {len(self._of)} names with protocol tcp have had one",
                    hint="`sandbox up --recreate` gives them out anew",
                )
            self._of[host] = free
        return self._of[host]


def _own_addresses(used: int) -> Iterator[str]:
    network, _, first = FIRST_OWN_ADDRESS.rpartition(".")
    last = int(LAST_OWN_ADDRESS.rpartition(".")[2])
    return (f"{network}.{number}" for number in range(int(first) + used, last + 1))
