"""Which header a secret goes into, and what the guest holds instead."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from engine.agents import list_agents
from engine.agents.definition import AgentDefinition, Credential
from engine.decoding import decode
from engine.gateway.rules import Injection, Rule
from engine.secrets.rules import (
    environment,
    injections_for,
    kind_of,
    name_for,
    placeholder_for,
    probe_for,
    renewal_for,
    renewal_rule,
    substitution_for,
    vendor_called,
)
from engine.secrets.vendors import VENDORS

GIT = ("/*/*/info/refs", "/*/*/git-upload-pack", "/*/*/git-receive-pack", "/*/*/info/lfs/**")
KEY, OAUTH = ("proxy-managed",), ("sk-ant-oat01-proxy-managed",)
PAT = ("github_pat_placeholder",)


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("anthropic", "api.anthropic.com", ("x-api-key", "raw", "", ("authorization",), (), KEY)),
        ("claude-subscription", "api.anthropic.com", ("authorization", "bearer", "", ("x-api-key",), (), OAUTH)),
        # The host decides, whatever the name says; at a host that nobody knows it is the name.
        ("mine", "api.anthropic.com", ("x-api-key", "raw", "", ("authorization",), (), KEY)),
        ("anthropic", "llm.corp.example", ("x-api-key", "raw", "", ("authorization",), (), KEY)),
        ("stripe", "api.stripe.example", ("authorization", "bearer", "", (), (), ("proxy-managed-stripe",))),
        ("github", "api.github.com", ("authorization", "bearer", "", (), (), PAT)),
        ("github", "raw.githubusercontent.com", ("authorization", "bearer", "", (), (), PAT)),
        ("work", "github.com", ("authorization", "basic", "x-access-token", (), GIT, PAT)),
        ("github", "GitHub.com.", ("authorization", "basic", "x-access-token", (), GIT, PAT)),
        ("copilot", "*.githubcopilot.com", ("authorization", "bearer", "", (), (), PAT)),
        ("google", "generativelanguage.googleapis.com", ("x-goog-api-key", "raw", "", ("authorization",), (), KEY)),
    ],
)
def test_where_it_goes(name: str, host: str, expected: tuple[Any, ...]) -> None:
    assert injections_for(name, host) == (Injection(name, *expected),)


def test_the_kind_can_be_said() -> None:
    (made,) = injections_for("anthropic", "api.anthropic.com", "oauth")
    assert made == Injection("anthropic", "authorization", "bearer", "", ("x-api-key",), (), OAUTH)


def test_a_name_that_only_begins_like_a_vendors_is_not_the_vendors() -> None:
    assert injections_for("anthropical", "x.example")[0].header == "authorization"
    assert injections_for("anthropic_work", "x.example")[0].header == "x-api-key"


def test_a_wildcard_over_hosts_that_differ_is_decided_by_the_name() -> None:
    # api.github.com takes Bearer, copilot.github.com is another vendor's.
    assert injections_for("anthropic", "*.github.com")[0].header == "x-api-key"


def test_no_kind_of_another_vendor_is_taken() -> None:
    assert injections_for("openai", "api.openai.com", "oauth")[0].placeholders == ("proxy-managed",)


def agents_credentials() -> list[tuple[AgentDefinition, Credential]]:
    return [(agent, credential) for agent in list_agents() for credential in agent.credentials.values()]


@pytest.mark.parametrize(("agent", "credential"), agents_credentials(), ids=lambda each: getattr(each, "name", ""))
def test_the_agents_say_the_same(agent: AgentDefinition, credential: Credential) -> None:
    """What an agent's definition says of its credentials is what this table says of that vendor's."""
    kind = kind_of(credential.secret, credential.placeholder) or None
    assert placeholder_for(credential.secret, kind) == credential.placeholder
    for said in credential.inject:
        (made,) = injections_for(credential.secret, said.host, kind)
        form = "bearer" if said.value == "Bearer {{secret}}" else "raw"
        assert (made.header, made.form) == (said.header, form), said.host
        assert set(said.remove) <= set(made.drop), said.host
    for variable in credential.env:
        # OPENAI_*: many an agent speaks OpenAI's protocol with other vendors, too.
        assert variable in environment(credential.secret, kind) or variable.startswith("OPENAI_")
    if credential.renewal is not None:
        renewal = renewal_for(credential.secret, kind)
        assert renewal is not None and (renewal.host, renewal.path) == (
            credential.renewal.host,
            credential.renewal.path,
        )


def test_variables_that_carry_the_placeholder() -> None:
    assert environment("anthropic") == {"ANTHROPIC_API_KEY": "proxy-managed"}
    assert environment("anthropic", "oauth") == {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-proxy-managed"}
    assert environment("work", host="api.github.com", variable="WORK_TOKEN") == {
        "GH_TOKEN": "github_pat_placeholder",
        "GITHUB_TOKEN": "github_pat_placeholder",
        "WORK_TOKEN": "github_pat_placeholder",
    }
    assert environment("stripe", variable="STRIPE_KEY") == {"STRIPE_KEY": "proxy-managed-stripe"}
    assert environment("stripe") == {}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("anthropic", "sk-ant-api03-x", "key"),
        ("anthropic", "sk-ant-oat01-x", "oauth"),
        ("anthropic", "something", None),
        ("groq", "gsk_x", None),
        ("stripe", "sk-ant-oat01-x", None),
    ],
)
def test_a_value_tells_its_kind(name: str, value: str, expected: str | None) -> None:
    assert kind_of(name, value) == expected


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("ANTHROPIC_API_KEY", "anthropic"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "anthropic-oauth"),
        ("GOOGLE_API_KEY", "google"),
        ("STRIPE_SECRET_KEY", "stripe_secret_key"),
        ("_WEIRD.KEY", "weird-key"),
    ],
)
def test_names_for_variables(variable: str, name: str) -> None:
    assert name_for(variable) == name


def test_a_name_for_a_variable_leads_back_to_its_kind() -> None:
    for vendor in VENDORS:
        for kind in vendor.kinds:
            for variable in kind.variables:
                assert environment(name_for(variable))[variable] == kind.placeholder


def test_the_table_is_of_one_piece() -> None:
    hosts = [host for vendor in VENDORS for place in vendor.places for host in place.hosts]
    assert len(hosts) == len(set(hosts))
    names = [name for vendor in VENDORS for name in (vendor.name, *vendor.aliases)]
    assert len(names) == len(set(names))
    for vendor in VENDORS:
        for kind in vendor.kinds:
            assert kind.header == kind.header.lower() and kind.header not in kind.drop
            # A value and its placeholder are of the same kind, where values say one.
            if kind_of(vendor.name, kind.placeholder) is not None:
                assert kind_of(vendor.name, kind.placeholder) == kind.name
            if (found := probe_for(vendor, vendor.name, kind.name)) is not None:
                probe, injection = found
                # The value is sent to the vendor's own hosts only; Copilot's token is GitHub's.
                own = {host for place in vendor.places for host in place.hosts}
                assert probe.host in own or (vendor.name, probe.host) == ("copilot", "api.github.com")
                assert probe.path.startswith("/") and injection.header == kind.header
                assert not set(probe.taken) & set(probe.refused)


def test_an_injection_travels_as_json() -> None:
    (made,) = injections_for("github", "github.com")
    assert decode(Injection, json.loads(json.dumps(dataclasses.asdict(made)))) == made


def test_vendors_are_found_by_their_aliases() -> None:
    vendor = vendor_called("gemini")
    assert vendor is not None and vendor.name == "google" and vendor_called("nobody") is None


def test_rules_with_renewals_and_substitutions_travel_as_json() -> None:
    tokens = renewal_rule("chatgpt", "chatgpt.com", "oauth", "endpoints[1]", "Sandboxfile.yaml:9")
    assert tokens is not None and (tokens.host, tokens.paths) == ("auth.openai.com", ("/oauth/token",))
    weather = substitution_for("weather", "api.weather.example", query=True, body=False)
    for made in (tokens, Rule("api.weather.example", substitutions=(weather,))):
        assert decode(Rule, json.loads(json.dumps(dataclasses.asdict(made)))) == made


def test_aws_has_keys_for_all_its_hosts_and_placeholders_of_their_form() -> None:
    for host in (
        "bedrock-runtime.us-east-1.amazonaws.com",
        "b.s3.amazonaws.com",
        "x.amazonaws.com.cn",
        "*.amazonaws.com",
    ):
        (made,) = injections_for("cloud", host)
        assert (made.form, made.header, made.placeholders) == ("sigv4", "authorization", ("AKIAPROXYMANAGED0000",))
    assert injections_for("cloud", "amazonaws.com.example")[0].form == "bearer"
    assert environment("aws") == {
        "AWS_ACCESS_KEY_ID": "AKIAPROXYMANAGED0000",
        "AWS_SECRET_ACCESS_KEY": "proxy-managed",
    }
    assert environment("aws", variable="MY_KEYS")["MY_KEYS"] == "AKIAPROXYMANAGED0000"
    (made,) = injections_for("aws-bearer", "bedrock-runtime.us-east-1.amazonaws.com")
    assert (made.form, made.header) == ("bearer", "authorization")
    assert environment("aws-bearer") == {"AWS_BEARER_TOKEN_BEDROCK": "proxy-managed"}
