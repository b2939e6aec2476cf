"""The form of a preset's file. README.md beside it explains the form to who writes one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, Strict, ValidationError, model_validator

from sandboxfile.diagnostics import Problem, SandboxfileError, did_you_mean, quote
from sandboxfile.names import ACCESS, GROUPS, PARAMETERISED, PRESET_FOLDER
from sandboxfile.positions import KeyPath
from sandboxfile.reading.source import Source, read_source
from sandboxfile.sections.endpoints import Method, check_host
from sandboxfile.sections.fields import Grammar, Maybe, Name, OneOf, Part, Text, refuse
from sandboxfile.sections.preset_keys import AccessWord
from sandboxfile.sections.structure import fields_at

REGISTRY = "{registry}"  # in the place of a host: those that the host's own client is configured with
REPOSITORY = "{repository}"  # in a path: OWNER/REPOSITORY, or OWNER/*


def _host(text: str) -> str:
    return text if text == REGISTRY else check_host(text)


PresetHost = Annotated[Text, AfterValidator(_host)]
PresetPath = Annotated[
    str,
    Strict(),
    Grammar(r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/{}-]*(\?[A-Za-z0-9._~=&-]+)?$", "must be a path that begins with /"),
]
Date = Annotated[Text, Grammar(r"^20[0-9]{2}-[01][0-9]-[0-3][0-9]$", "must be a date such as 2026-11-26")]
Body = Annotated[str, OneOf(("push", "lfs-download"))]
Address = Annotated[Text, Grammar(r"^https://[^\s]+$", "must be an https:// address")]


class Evidence(Part):
    """Where a fact is from: a page, or what a client did when it was watched."""

    url: Maybe[Address] = Field(default=None, description="The page of the makers to check it against.")
    seen: Maybe[Text] = Field(default=None, description="What was watched instead: the client and its version.")
    date: Date = Field(description="When the fact was written down, or seen.")

    @model_validator(mode="after")
    def _one(self) -> Evidence:
        if (self.url is None) == (self.seen is None):
            raise refuse("needs either `url` or `seen`")
        return self


class Requests(Part):
    """Some requests to one host."""

    host: PresetHost = Field(description="The host's name, or {registry}.")
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = Field(description="Their methods; HEAD is in GET.")
    paths: tuple[PresetPath, ...] = Field(
        default=(), description="Patterns of paths; default: all. With a query, exactly that one."
    )
    why: Text = Field(description="What they are for, in a few words.")
    source: Name = Field(description="The name of the evidence, in `sources`.")
    secret: Annotated[bool, Strict()] = Field(default=False, description="Whether the endpoint's secret goes to them.")
    body: Maybe[Body] = Field(
        default=None,
        description="What their bodies must be: a push that `push` and `changes` allow, or a batch of LFS to download.",
    )


class Access(Part):
    """What one word of `access` allows."""

    summary: Text = Field(description="What it allows, in words that continue: it is for ...")
    note: Maybe[Text] = Field(default=None, description="What to know before it is asked for, said in refusals, too.")
    requests: Annotated[tuple[Requests, ...], Field(min_length=1)] = Field(description="The requests.")


class Preset(Part):
    """One preset."""

    name: Name = Field(description="Its name: that of its file.")
    title: Text = Field(description="The service's name as its makers write it.")
    summary: Text = Field(description="What it is, in one line.")
    registry: Annotated[bool, Strict()] = Field(
        default=False, description="Whether it is a group whose hosts are those of the host's own client."
    )
    default: Maybe[AccessWord] = Field(
        default=None, description="The access without `access`; none: everything at its hosts, as for a host."
    )
    access: dict[AccessWord, Access] = Field(description="What each word allows.")
    push: Maybe[Access] = Field(default=None, description="What `push` allows beside `access`.")
    limits: tuple[Text, ...] = Field(default=(), description="What it cannot tell apart, or does not allow, and why.")
    sources: dict[Name, Evidence] = Field(description="Where its facts are from.")

    @model_validator(mode="after")
    def _fits_together(self) -> Preset:
        if self.registry != (self.name in GROUPS):
            raise refuse("is for the groups of package registries", key="registry")
        if (self.default is None) != self.registry or (self.default and self.default not in self.access):
            raise refuse("must be one of its own accesses, and a group of registries has none", key="default")
        used = set()
        for access in (*self.access.values(), *([self.push] if self.push else [])):
            for requests in access.requests:
                used.add(requests.source)
                self._check(requests, is_push=access is self.push)
        if used != set(self.sources):
            raise refuse(f"{min(used ^ set(self.sources))} is not both used and there", key="sources")
        return self

    def _check(self, requests: Requests, *, is_push: bool) -> None:
        if (requests.host == REGISTRY) != self.registry:
            raise refuse(f"{REGISTRY} is the host of groups of registries, and of no others", key="access")
        if requests.body == "push" and not is_push:
            raise refuse("bodies are judged as pushes in `push` alone", key="access")
        for path in requests.paths:
            words = set(re.findall(r"\{[^}]*\}?|\}", path))
            if words - {REPOSITORY} or (words and self.name not in PARAMETERISED):
                raise refuse(f"has no value for the braces in {path}", key="access")

    def accesses(self) -> Iterator[tuple[str, Access]]:
        """Every word with what it allows, `push` last."""
        yield from self.access.items()
        if self.push is not None:
            yield "push", self.push


@cache
def load_preset(name: str) -> Preset:
    """The preset called `name`, which is one of `names.PRESETS`. Raises OSError and SandboxfileError."""
    return read_preset(PRESET_FOLDER / f"{name}.yaml")


def read_preset(path: Path) -> Preset:
    """The preset in a file. Raises OSError, and SandboxfileError with every problem and its place."""
    source = read_source(path.read_bytes(), f"{path.parent.name}/{path.name}")
    problems = list(source.problems)
    if source.readable:
        try:
            preset = Preset.model_validate({"name": path.stem, **source.data})
            if not problems:
                return preset
        except ValidationError as error:
            problems += [source.diagnose(problem) for problem in _problems(error, source)]
    raise SandboxfileError(dict.fromkeys(problems))


def _problems(error: ValidationError, source: Source) -> Iterator[Problem]:
    for details in error.errors(include_url=False):
        kind, context = details["type"], details.get("ctx", {})
        path: KeyPath = ()
        for segment in details["loc"]:
            if (*path, segment) in source.positions or (kind == "missing" and segment == details["loc"][-1]):
                path = (*path, segment)
        if kind == "refused":
            yield Problem((*path, context["key"]) if context["key"] else path, context["problem"], context["hint"])
        elif kind == "extra_forbidden":
            hint = did_you_mean(str(path[-1]), fields_at(Preset, path[:-1])) if path else None
            yield Problem(path, "unknown key", hint, at_key=True)
        elif kind == "missing":
            yield Problem(path, "is missing")
        else:
            yield Problem(path, f"{details['msg'][:1].lower()}{details['msg'][1:]}, got {quote(details['input'])}")


def words_of(preset: Preset) -> tuple[str, ...]:
    """The words of `access` that it has, in the order in which the language lists them."""
    return tuple(word for word in ACCESS if word in preset.access)
