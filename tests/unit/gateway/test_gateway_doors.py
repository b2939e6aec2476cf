"""Where in the guest's network the gateway is, and for which name."""

from __future__ import annotations

import pytest

from engine.gateway.doors import Addresses, Door
from engine.gateway.errors import GatewayError
from engine.gateway.policy import Policy
from engine.gateway.rules import Rule
from vmm.spec import GATEWAY_ADDRESS

DB = Rule("db.example.com", 5432, raw=True)
SSH = Rule("git.example.com", 22, raw=True)


def test_without_a_raw_endpoint_there_is_one_address() -> None:
    policy = Policy([Rule("a.example.com"), Rule("b.example.com", 8443)])
    assert Addresses().doors(policy) == tuple(Door(GATEWAY_ADDRESS, port) for port in (80, 443, 8443))
    assert Addresses().names(policy) == {}


def test_a_raw_endpoint_has_an_address_where_the_name_is_reached_by_https_too() -> None:
    policy = Policy([DB, Rule("db.example.com")])
    assert Addresses().names(policy) == {"db.example.com": "10.0.2.101"}
    assert Addresses().doors(policy) == (
        Door(GATEWAY_ADDRESS, 80),
        Door(GATEWAY_ADDRESS, 443),
        Door("10.0.2.101", 80),
        Door("10.0.2.101", 443),
        Door("10.0.2.101", 5432, "db.example.com"),
    )


def test_ports_of_one_name_share_its_address_and_names_share_none() -> None:
    policy = Policy([DB, Rule("db.example.com", 443, raw=True), SSH])
    doors = Addresses().doors(policy)
    assert {door for door in doors if door.host} == {
        Door("10.0.2.101", 443, "db.example.com"),
        Door("10.0.2.101", 5432, "db.example.com"),
        Door("10.0.2.102", 22, "git.example.com"),
    }
    places = [(door.address, door.port) for door in doors]
    assert len(places) == len(set(places)), "what comes to one place has one meaning"
    assert len({door.socket_name for door in doors}) == len(doors)


def test_a_name_keeps_its_address_and_no_other_ever_gets_it() -> None:
    addresses = Addresses()
    assert addresses.names(Policy([DB])) == {"db.example.com": "10.0.2.101"}
    assert addresses.names(Policy([SSH])) == {"git.example.com": "10.0.2.102"}
    assert addresses.names(Policy([SSH, DB])) == {"git.example.com": "10.0.2.102", "db.example.com": "10.0.2.101"}


def test_addresses_end() -> None:
    rules = [Rule(f"h{number}.example.com", 22, raw=True) for number in range(100)]
    assert len(Addresses().doors(Policy(rules[:99]))) == 2 + 3 * 99
    with pytest.raises(GatewayError, match="no address is left for h99"):
        Addresses().doors(Policy(rules))


def test_a_denied_or_aliased_name() -> None:
    denied = Rule("db.example.com", 5432, deny=True, raw=True)
    assert Addresses().names(Policy([denied])) == {}
    alias = Rule("cache", 6379, raw=True, target="localhost")
    assert Addresses().names(Policy([alias])) == {"cache": "10.0.2.101"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "*.example.com", "port": 22, "raw": True},
        {"host": "a.example.com", "raw": True},
        {"host": "a", "target": "localhost"},
        {"host": "a.example.com", "port": 22, "raw": True, "paths": ("/x",)},
        {"host": "a.example.com", "bypass": True, "methods": ("GET",)},
        {"host": "a", "port": 80, "target": "127.0.0.1"},
    ],
)
def test_rules_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(GatewayError):
        Rule(**wrong)  # type: ignore[arg-type]
