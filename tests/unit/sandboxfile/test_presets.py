"""The files of the presets, and what is said about one that is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandboxfile import SandboxfileError, parse
from sandboxfile.names import ACCESS, GROUPS, NAMED, PARAMETERISED, PRESET_FOLDER, PRESETS
from sandboxfile.presets.definition import load_preset, read_preset
from sandboxfile.presets.expansion import hosts_of, preset_of
from sandboxfile.sections.endpoints import Endpoint
from sandboxfile.writing.dump import to_data, to_text


@pytest.mark.parametrize("name", PRESETS)
def test_each_file_is_valid_and_says_where_its_facts_are_from(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name and preset.sources
    for _, access in preset.accesses():
        assert not access.summary.endswith(".")
        for requests in access.requests:
            assert preset.sources[requests.source].date >= "2026-01-01"
            assert requests.why.endswith(".")


def test_every_word_and_every_group_has_a_file() -> None:
    assert {word for name in PRESETS for word in load_preset(name).access} == set(ACCESS)
    assert set(PRESETS) == {*NAMED, *PARAMETERISED} and set(GROUPS) <= set(PRESETS)


@pytest.mark.parametrize("name", GROUPS)
def test_no_file_names_a_package_registry(name: str) -> None:
    for _, access in load_preset(name).accesses():
        assert {requests.host for requests in access.requests} == {"{registry}"}


def test_only_secrets_that_a_vendor_is_known_for_are_promised() -> None:
    from engine.secrets.rules import vendor_of

    for name in NAMED:
        endpoint = Endpoint.model_validate({"group": name, "access": next(iter(load_preset(name).access))})
        for host in hosts_of(endpoint, secret=True):
            assert vendor_of("unheard-of", host) is not None, host


GOOD = (PRESET_FOLDER / "mistral.yaml").read_text()
WRONG = {
    "a misspelt key": ("summary: chat", "sumary: chat", "unknown key"),
    "an unknown source": ("source: api", "source: apis", "sources: api is not both used and there"),
    "no date": (", date: 2026-11-26", "", "date: is missing"),
    "a URL for a host": ("host: api.mistral.ai", "host: https://api.mistral.ai/", "must be a host's name, not a URL"),
    "a method in lower case": ("[POST]", "[post]", "must be GET"),
    "a path without a slash": ("[/v1/models,", "[v1/models,", "must be a path that begins with /"),
    "braces without a value": ("/v1/models/*", '"/v1/{repository}"', "has no value for the braces"),
    "a default that it has not": ("default: inference", "default: read", "must be one of its own accesses"),
    "a registry that is none": ("default: inference", "registry: true", "is for the groups of package registries"),
    "a word that the language has not": ("  inference:", "  thinking:", "must be read"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, what: str) -> None:
    old, new, message = WRONG[what]
    assert old in GOOD
    path = tmp_path / "mistral.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(SandboxfileError) as caught:
        read_preset(path)
    assert message in str(caught.value)
    assert re.match(r"\S+/mistral\.yaml:[0-9]+:[0-9]+: ", str(caught.value))


@pytest.mark.parametrize(
    "endpoint",
    [
        "{github: acme/shop}",
        "{github: [acme/shop, acme/*], access: [read, issues], push: ['agent/*', refs/tags/v*], changes: [create]}",
        "{group: npm, access: read}",
        "anthropic",
    ],
)
def test_what_is_written_out_is_read_back(endpoint: str) -> None:
    one = parse(f'version: "1"\nendpoints: [{endpoint}]\n', Path("/p/Sandboxfile.yaml")).sandbox
    for defaults in (False, True):
        again = parse(to_text(one, defaults=defaults), Path("/p/Sandboxfile.yaml")).sandbox
        assert (again.endpoints == one.endpoints and to_data(again) == to_data(one)) or defaults


def test_layers_replace_the_endpoint_of_the_same_repositories_alone(tmp_path: Path) -> None:
    from sandboxfile import load

    (tmp_path / "Sandboxfile.yaml").write_text(
        'version: "1"\nendpoints: [{github: acme/shop}, {github: acme/web}, anthropic]\n'
    )
    (tmp_path / "Sandboxfile.local.yaml").write_text(
        "endpoints: [{github: acme/shop, access: issues}, {github: acme/new}]\n"
    )
    found = load(tmp_path / "Sandboxfile.yaml").sandbox.endpoints
    assert [(each.github, each.access) for each in found] == [
        (("acme/shop",), ("issues",)),
        (("acme/web",), ()),
        ((), ()),
        (("acme/new",), ()),
    ]


def test_an_image_of_a_preset_is_not_warned_of() -> None:
    text = 'version: "1"\nendpoints: [{0}]\nservices: {{db: {{image: postgres:17}}}}\n'
    assert parse(text.format("docker-hub"), Path("/p/Sandboxfile.yaml")).warnings == ()
    assert parse(text.format("quay"), Path("/p/Sandboxfile.yaml")).warnings


def test_a_host_and_a_bare_group_have_no_preset() -> None:
    assert preset_of(Endpoint.model_validate("npm")) is None
    assert preset_of(Endpoint.model_validate("github.com")) is None
