"""The shape of an `agent.yaml`: how one coding agent is installed, started, and given its credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from engine.agents.installation import HttpsUrl, Installation
from engine.agents.words import check_words, knows, words_in
from engine.errors import EngineError
from sandboxfile.diagnostics import Problem, SandboxfileError, did_you_mean, quote
from sandboxfile.positions import KeyPath
from sandboxfile.reading.source import Source, read_source
from sandboxfile.sections.endpoints import Host, SecretName, UrlPath
from sandboxfile.sections.fields import (
    Environment,
    EnvironmentName,
    Grammar,
    Maybe,
    Name,
    OneOf,
    Part,
    Script,
    Text,
    refuse,
)
from sandboxfile.sections.machine import Machine
from sandboxfile.sections.structure import fields_at

Argv = Annotated[tuple[Text, ...], Field(min_length=1, max_length=100), knows("prompt", "session")]
HeaderName = Annotated[Text, Grammar(r"^[a-z0-9][a-z0-9-]{0,63}$", "must be a header's name in lower case")]
GuestPath = Annotated[
    Text, Grammar(r"^(~|/)/?(?!(.*/)?\.\.(/|$))[^\x00-\x20\x7f~]+$", "must be a path of the guest, from / or ~/")
]
HomePath = Annotated[
    GuestPath, Grammar(r"^~/([A-Za-z0-9._-]+/)*[A-Za-z0-9._-]+$", "must be a file or directory below ~/")
]
ProjectFile = Annotated[Text, Grammar(r"^(?!/)(?!(.*/)?\.\.(/|$))[A-Za-z0-9._/-]+$", "must be a path in a project")]
FileMode = Annotated[Text, Grammar(r"^0[0-7]{3}$", "must be a file mode such as 0600")]


class Place(Part):
    """Where something stands in what an agent prints as JSON."""

    where: dict[Text, Text] = Field(
        default_factory=dict,
        description="Of one value a line: the values of keys that the line has. Keys within keys have dots.",
    )
    at: Text = Field(
        description="The key, such as `item.text`; in a list the number of the item, -1 for the last. Of several lines"
        " that have it, the last one counts."
    )


class Answer(Part):
    """What the headless command prints: JSON, and what of it is the answer."""

    text: Place = Field(description="The answer in words.")
    usage: Maybe[Place] = Field(default=None, description="What the models were used for it.")
    session: Maybe[Place] = Field(default=None, description="The session, to go on with.")
    failed: Maybe[Place] = Field(default=None, description="Whether it has failed: true, whatever the exit code.")


class Login(Part):
    """Signing in inside the machine, such as with a code that a browser elsewhere is told.

    What comes of it stays in the machine, and whatever runs there can read it.
    """

    command: Annotated[tuple[Text, ...], Field(min_length=1, max_length=100), knows()] = Field(
        description="The command."
    )
    hosts: tuple[Host, ...] = Field(default=(), description="Hosts that it needs, and the agent after it.")


class Commands(Part):
    """How the agent is started.

    It may do anything in the machine, so these commands tell it to ask for no permission.
    """

    interactive: Argv = Field(description="With a terminal.")
    headless: Maybe[Argv] = Field(default=None, description="For one task, given as {{prompt}}.")
    resume: Maybe[Argv] = Field(default=None, description="To go on with {{session}}, for {{prompt}}.")
    acp: Maybe[Argv] = Field(default=None, description="To speak the Agent Client Protocol on standard streams.")
    login: Maybe[Login] = Field(default=None, description="To sign in inside the machine.")
    output: Annotated[Literal["text", "json", "jsonl"], OneOf(("text", "json", "jsonl"))] = Field(
        default="text", description="What the headless command prints: text, one JSON value, or one a line."
    )

    answer: Maybe[Answer] = Field(default=None, description="What of the JSON is the answer.")

    @model_validator(mode="after")
    def _json_has_an_answer(self) -> Commands:
        if (self.output == "text") != (self.answer is None) and self.headless is not None:
            raise refuse("is for output as JSON, and has to be there for it", key="answer")
        return self

    @model_validator(mode="after")
    def _words_where_they_belong(self) -> Commands:
        check_words(self.interactive, key="interactive")
        if self.acp is not None:
            check_words(self.acp, key="acp")
        if self.headless is not None:
            check_words(self.headless, "prompt", key="headless")
            if "prompt" not in words_in(self.headless):
                raise refuse("has no place for the task", "one argument is {{prompt}}", "headless")
        if self.resume is not None and "session" not in words_in(self.resume):
            raise refuse("has no place for the session", "one argument is {{session}}", "resume")
        return self


class NeededHost(Part):
    """A host that the agent needs."""

    host: Host = Field(description="The host's name, or *.example.com for all names below it.")
    why: Text = Field(description="What it is for, in a few words.")


class Seed(Part):
    """A file that is in the guest before the agent's first start, so that the agent asks no questions then."""

    path: GuestPath = Field(description="Where it is; ~ is the home directory of the agent's user.")
    mode: FileMode = Field(default="0600", description="Its permissions.")
    json_: Maybe[dict[str, Any]] = Field(
        default=None, alias="json", description="Its content as JSON. Several seeds of one path are merged."
    )
    text: Maybe[Script] = Field(default=None, description="Its content as text.")

    @model_validator(mode="after")
    def _one_content(self) -> Seed:
        if (self.json_ is None) == (self.text is None):
            raise refuse("needs either `json` or `text`")
        return self


class CredentialSource(Part):
    """Where the user keeps the value of a credential."""

    env: Annotated[tuple[EnvironmentName, ...], Field(min_length=1)] = Field(
        description="Variables of the user's environment; the first one that is set is taken."
    )


class Injection(Part):
    """What the gateway does to requests for one host."""

    host: Host = Field(description="The host's name, or *.example.com for all names below it.")
    header: HeaderName = Field(description="The header that is set.")
    value: Annotated[Text, knows("secret")] = Field(
        default="{{secret}}", description="Its value, such as `Bearer {{secret}}`."
    )
    remove: tuple[HeaderName, ...] = Field(
        default=(),
        description="Headers that are taken out, because clients send them with the other kind of credential.",
    )

    @model_validator(mode="after")
    def _carries_it(self) -> Injection:
        if "secret" not in words_in(self.value):
            raise refuse("does not carry the secret", "write {{secret}}", "value")
        return self


class Renewal(Part):
    """Where tokens of this kind are renewed. The gateway masks the new tokens before the guest sees the answer."""

    host: Host = Field(description="The host's name.")
    path: UrlPath = Field(description="The path of its token endpoint.")


class Credential(Part):
    """One kind of credential. The guest holds the placeholder; the gateway puts the value into requests."""

    summary: Text = Field(description="What it is, in a few words.")
    secret: SecretName = Field(description="Its usual name in `secrets` of a Sandboxfile.")
    source: CredentialSource = Field(description="Where the user has the value.")
    obtain: Maybe[Text] = Field(default=None, description="Where the user gets one, in a few words.")
    placeholder: Text = Field(
        description="What the guest holds instead; clients tell kinds of credentials by its form."
    )
    inject: Annotated[tuple[Injection, ...], Field(min_length=1)] = Field(description="Which requests get the value.")
    env: Annotated[Environment, knows("placeholder")] = Field(
        default_factory=dict, description="Environment variables of the agent when this kind is used."
    )
    seeds: tuple[Seed, ...] = Field(default=(), description="Files of the guest when this kind is used.")
    renewal: Maybe[Renewal] = Field(default=None, description="Where its tokens are renewed.")

    @model_validator(mode="after")
    def _guest_has_it(self) -> Credential:
        in_guest = [*words_in(self.env), *(word for seed in self.seeds for word in words_in(seed.json_ or seed.text))]
        if "placeholder" not in in_guest:
            raise refuse("never gives the guest its placeholder", "write {{placeholder}} in `env` or in a seed")
        return self


class AgentDefinition(Part):
    """One coding agent."""

    model_config = ConfigDict(title="agent.yaml")

    name: Name = Field(description="Its name in `agent.use`: that of its folder.")
    title: Text = Field(description="Its name as its makers write it.")
    summary: Text = Field(description="What it is, in one line.")
    aliases: tuple[Name, ...] = Field(default=(), description="What others call it.")
    marks: tuple[ProjectFile, ...] = Field(
        default=(), description="Files and directories of a project that show that this agent is used in it."
    )
    docs: Maybe[HttpsUrl] = Field(default=None, description="Where its makers explain it.")
    evidence: Annotated[Literal["run", "documents"], OneOf(("run", "documents"))] = Field(
        description="Whether this definition was seen to work with the version named here, or only read about."
    )
    seen: tuple[Text, ...] = Field(
        default=(), description="What was run of it: in which version, on which day and where, a line each."
    )
    limits: tuple[Text, ...] = Field(default=(), description="What users have to know that does not work.")
    machine: Machine = Field(default_factory=Machine, description="The smallest machine that it works in.")
    install: Installation = Field(description="How it gets into the guest.")
    commands: Commands = Field(description="How it is started.")
    env: Environment = Field(default_factory=dict, description="Environment variables that make it quiet and quick.")
    hosts: tuple[NeededHost, ...] = Field(default=(), description="Hosts without which it does not work.")
    unneeded: tuple[Host, ...] = Field(
        default=(), description="Hosts that it asks for and works without: telemetry, updates, tips."
    )
    credentials: dict[Name, Credential] = Field(
        default_factory=dict, description="Kinds of credentials, by names of ours; the first is the usual one."
    )
    seeds: tuple[Seed, ...] = Field(default=(), description="Files that are there before its first start.")
    note: Maybe[GuestPath] = Field(
        default=None, description="Where it reads notes of its user, in its home. What is reachable is told there."
    )
    state: tuple[GuestPath, ...] = Field(default=(), description="Where it keeps settings, logins and sessions.")
    sessions: tuple[HomePath, ...] = Field(
        default=(), description="What of that `agent.keep` keeps: sessions and histories, and nothing that signs it in."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> AgentDefinition:
        for credential in (None, *self.credentials.values()):
            self._check_seeds(credential)
        if self.seen and self.evidence != "run":
            raise refuse("is for what was run, and `evidence` says that it was not", key="seen")
        for seed in (*self.seeds, *(seed for one in self.credentials.values() for seed in one.seeds)):
            if any(seed.path == path or seed.path.startswith(f"{path}/") for path in self.sessions):
                raise refuse(f"{seed.path} is seeded, and would be overwritten by what was kept", key="sessions")
        needed = {needed.host for needed in self.hosts}
        for credential in self.credentials.values():
            for injection in credential.inject:
                if injection.host not in needed:
                    raise refuse(f"a credential goes to {injection.host}, which is not in `hosts`", key="hosts")
        if both := needed & set(self.unneeded):
            raise refuse(f"{min(both)} is both needed and unneeded", key="unneeded")
        return self

    def _check_seeds(self, credential: Credential | None) -> None:
        """The files that are there with one kind of credential, or with none."""
        check_words([seed.json_ or seed.text for seed in self.seeds], "workspace", key="seeds")
        seeds = (*self.seeds, *(credential.seeds if credential else ()))
        check_words([seed.json_ or seed.text for seed in seeds], "workspace", "placeholder", key="credentials")
        paths = [seed.path for seed in seeds]
        for seed in seeds:
            if seed.text is not None and paths.count(seed.path) > 1:
                raise refuse(f"{seed.path} is seeded twice, and texts cannot be merged", key="seeds")


def read_definition(path: Path, shown: str | None = None) -> AgentDefinition:
    """The definition in the file at `path`; the file's folder has the agent's name. In problems it is called `shown`.

    Raises EngineError for a file that cannot be read, and SandboxfileError with every problem and its place.
    """
    file = f"{shown or path.parent.name}/{path.name}"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{file} cannot be read: {error.strerror}", exit_code=2) from error
    source = read_source(text, file)
    problems = list(source.problems)
    if source.readable:
        try:
            definition = AgentDefinition.model_validate({"name": path.parent.name, **source.data})
            if not problems:
                return definition
        except ValidationError as error:
            of_model = [_problem(details, source) for details in _findings(error)]
            problems += [source.diagnose(problem) for problem in of_model if problem.path not in source.unusable]
    raise SandboxfileError(dict.fromkeys(problems))


def _findings(error: ValidationError) -> list[ErrorDetails]:
    """The model's findings, without a finding that a list is empty where the list has wrong entries."""
    findings = error.errors(include_url=False)
    around = {details["loc"][:length] for details in findings for length in range(len(details["loc"]))}
    return [details for details in findings if details["type"] != "too_short" or details["loc"] not in around]


def _problem(details: ErrorDetails, source: Source) -> Problem:
    """A finding of the model as a problem. A missing key has the path that it should have in the file."""
    kind, context = details["type"], details.get("ctx", {})
    path: KeyPath = ()
    for segment in details["loc"]:
        if (*path, segment) in source.positions or (kind == "missing" and segment == details["loc"][-1]):
            path = (*path, segment)
    if kind == "extra_forbidden":
        return Problem(path, "unknown key", did_you_mean(str(path[-1]), fields_at(AgentDefinition, path[:-1])), True)
    if kind == "missing":
        return Problem(path, "is missing")
    if kind == "refused":
        key = context["key"]
        return Problem((*path, key) if key else path, context["problem"], context["hint"])
    return Problem(path, f"{details['msg'][:1].lower()}{details['msg'][1:]}, got {quote(details['input'])}")
