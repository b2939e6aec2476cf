"""The credential rules of the services that agents work with, as data: rules.py reads them.

A `Vendor` has one or more `Kind`s of credentials, the usual one first, and `Place`s: the hosts that take them. What is
the same at all hosts is said by the kind; a place says what is different there.

`evidence` says where a vendor's facts are from. "run": the agent of that vendor was run against a recording upstream
with the placeholder that is written here, and the header that it sent was seen. "documents": from the vendor's own
pages and the agent's source. How a vendor answers to a `Probe` is from its documents everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["raw", "bearer", "basic", "sigv4"]  # as in engine.gateway.rules.Injection
Evidence = Literal["run", "documents"]

PLACEHOLDER = "proxy-managed"
AWS_KEY_ID = "AKIAPROXYMANAGED0000"  # clients look at its form


@dataclass(frozen=True)
class Renewal:
    """Where tokens of a kind are renewed: the answers hold new ones, which are masked before the guest sees them.

    `placeholder` stands for the renewal token, as the kind's own stands for the access token. `asked` is the field of
    the request (JSON or form) that has the renewal token; the others are fields of the answer.
    """

    host: str
    path: str
    placeholder: str
    asked: str = "refresh_token"
    access: str = "access_token"
    refresh: str = "refresh_token"
    identity: str = "id_token"


@dataclass(frozen=True)
class Probe:
    """A GET that changes nothing and costs nothing, with the credential in its usual header.

    `taken` and `refused` are the statuses that say so; of all others nothing can be told. 403 is in neither: the
    vendor knows the credential, and does not let it do this.
    """

    host: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    taken: tuple[int, ...] = (200,)
    refused: tuple[int, ...] = (401,)


@dataclass(frozen=True)
class Kind:
    """One kind of credential.

    `header` and `drop` (rivals that clients send beside it or instead) are lower case. `placeholder` is what the guest
    holds: clients choose their header by its looks. `variables` carry it into the guest. `beginnings` are those of
    real values, and tell the kinds of one vendor apart. `words` in a secret's name say that it is of this kind. `held`
    are variables with a placeholder of their own.
    """

    name: str
    header: str = "authorization"
    form: Form = "bearer"
    drop: tuple[str, ...] = ()
    placeholder: str = PLACEHOLDER
    variables: tuple[str, ...] = ()
    beginnings: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    renewal: Renewal | None = None
    probe: Probe | None = None


@dataclass(frozen=True)
class Place:
    """Hosts that take a vendor's credentials; `*.` stands for all below one.

    With `user` they take it as the password of Basic, of that user; `paths` (patterns: `*` in a segment, `**` across)
    are the only ones there that do.
    """

    hosts: tuple[str, ...]
    user: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vendor:
    """One service. A secret called `name` or one of `aliases`, or that and more (`github-work`), is of it."""

    name: str
    title: str
    evidence: Evidence
    places: tuple[Place, ...]
    kinds: tuple[Kind, ...]
    aliases: tuple[str, ...] = ()


_OAUTH = ("oauth", "subscription")

# git's smart protocol and LFS. The rest of github.com is for browsers, which have no use for a token.
_GIT = ("/*/*/info/refs", "/*/*/git-upload-pack", "/*/*/git-receive-pack", "/*/*/info/lfs/**")


def _key(variable: str, probe: Probe) -> Kind:
    """A key that is sent as Bearer, of which there is one kind."""
    return Kind("key", variables=(variable,), probe=probe)


VENDORS: tuple[Vendor, ...] = (
    Vendor(
        "anthropic",
        "Anthropic",
        "run",  # Claude Code 2.1.330, OpenCode, OpenClaw
        (Place(("api.anthropic.com",)),),
        (
            Kind(
                "key",
                header="x-api-key",
                form="raw",
                drop=("authorization",),  # with a key from a helper Claude Code sends both
                variables=("ANTHROPIC_API_KEY",),
                beginnings=("sk-ant-api",),
                probe=Probe("api.anthropic.com", "/v1/models?limit=1", (("anthropic-version", "2023-06-01"),)),
            ),
            Kind(
                "oauth",
                drop=("x-api-key",),
                placeholder="sk-ant-oat01-proxy-managed",
                variables=("CLAUDE_CODE_OAUTH_TOKEN",),
                beginnings=("sk-ant-oat",),
                words=_OAUTH,
                renewal=Renewal("platform.claude.com", "/v1/oauth/token", "sk-ant-ort01-proxy-managed"),
                probe=Probe(
                    "api.anthropic.com",
                    "/v1/models?limit=1",
                    (("anthropic-version", "2023-06-01"), ("anthropic-beta", "oauth-2025-04-20")),
                ),
            ),
        ),
        aliases=("claude",),
    ),
    Vendor(
        "openai",
        "OpenAI",
        "run",  # Codex 0.169.0, OpenCode; of OPENAI_API_KEY Codex takes no notice, its seed has the placeholder
        (Place(("api.openai.com",)),),
        (
            Kind(
                "key",
                variables=("OPENAI_API_KEY", "CODEX_API_KEY"),
                beginnings=("sk-",),
                probe=Probe("api.openai.com", "/v1/models"),
            ),
        ),
        aliases=("codex",),
    ),
    Vendor(
        "chatgpt",
        "ChatGPT",
        "run",  # Codex against a recording upstream; the renewal is from its source
        (Place(("chatgpt.com",)),),
        (
            Kind(
                "oauth",
                placeholder="oai-oat01-proxy-managed",
                words=_OAUTH,
                renewal=Renewal("auth.openai.com", "/oauth/token", "oai-ort01-proxy-managed"),
            ),
        ),
    ),
    Vendor(
        "google",
        "Google's Gemini API",
        "run",  # Gemini CLI 0.61.0; OpenCode, which does not look at GEMINI_API_KEY
        (Place(("generativelanguage.googleapis.com",)),),
        (
            Kind(
                "key",
                header="x-goog-api-key",
                form="raw",
                drop=("authorization",),
                variables=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
                beginnings=("AIza",),
                # A key that it does not know is a bad argument to it.
                probe=Probe("generativelanguage.googleapis.com", "/v1beta/models?pageSize=1", refused=(400, 401)),
            ),
        ),
        aliases=("gemini",),
    ),
    Vendor(
        "github",
        "GitHub",
        "documents",
        (
            Place(("api.github.com", "raw.githubusercontent.com")),
            Place(("github.com",), user="x-access-token", paths=_GIT),
        ),
        (
            Kind(
                "token",
                placeholder="github_pat_placeholder",
                variables=("GH_TOKEN", "GITHUB_TOKEN"),
                beginnings=("ghp_", "github_pat_", "gho_", "ghu_", "ghs_"),
                probe=Probe("api.github.com", "/rate_limit"),  # it does not count, and tokens of apps may ask, too
            ),
        ),
        aliases=("gh",),
    ),
    Vendor(
        "copilot",
        "GitHub Copilot",
        "run",  # Copilot CLI 1.0.102, which writes the scheme as Bearer, bearer and token
        (
            Place(
                (
                    "api.githubcopilot.com",
                    "api.individual.githubcopilot.com",
                    "api.business.githubcopilot.com",
                    "api.enterprise.githubcopilot.com",
                    "copilot.github.com",
                )
            ),
        ),
        (
            Kind(
                "token",
                placeholder="github_pat_placeholder",
                variables=("COPILOT_GITHUB_TOKEN",),
                probe=Probe("api.github.com", "/copilot_internal/user"),
            ),
        ),
    ),
    Vendor(
        "openrouter",
        "OpenRouter",
        "documents",
        (Place(("openrouter.ai",)),),
        (_key("OPENROUTER_API_KEY", Probe("openrouter.ai", "/api/v1/key")),),  # its list of models is for everybody
    ),
    Vendor(
        "groq",
        "Groq",
        "documents",
        (Place(("api.groq.com",)),),
        (_key("GROQ_API_KEY", Probe("api.groq.com", "/openai/v1/models")),),
    ),
    Vendor(
        "xai",
        "xAI",
        "documents",
        (Place(("api.x.ai",)),),
        # Of a key that it does not know it says that it is a bad argument.
        (_key("XAI_API_KEY", Probe("api.x.ai", "/v1/models", refused=(400, 401))),),
        aliases=("grok",),
    ),
    Vendor(
        "mistral",
        "Mistral",
        "documents",
        (Place(("api.mistral.ai",)),),
        (_key("MISTRAL_API_KEY", Probe("api.mistral.ai", "/v1/models")),),
    ),
    Vendor(
        "amp",
        "Amp",
        "documents",
        (Place(("ampcode.com", "*.ampcode.com")),),
        (Kind("key", placeholder="sgamp_proxy-managed", variables=("AMP_API_KEY",), beginnings=("sgamp_",)),),
    ),
    Vendor(
        "factory",
        "Factory",
        "documents",
        (Place(("api.factory.ai",)),),
        (Kind("key", placeholder="fk-proxy-managed", variables=("FACTORY_API_KEY",), beginnings=("fk-",)),),
    ),
    Vendor(
        "dashscope",
        "Alibaba Cloud Model Studio",
        "documents",
        (Place(("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com")),),
        (Kind("key", variables=("DASHSCOPE_API_KEY",)),),
    ),
    Vendor(
        "aws",
        "Amazon Web Services",
        "documents",
        (Place(("*.amazonaws.com", "*.amazonaws.com.cn", "*.api.aws")),),
        (
            Kind(
                "keys",
                form="sigv4",
                drop=("x-amz-security-token",),
                placeholder=AWS_KEY_ID,
                held=(("AWS_ACCESS_KEY_ID", AWS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", PLACEHOLDER)),
                beginnings=("AKIA", "ASIA", "{"),
            ),
            Kind(
                "bearer",  # of Bedrock
                variables=("AWS_BEARER_TOKEN_BEDROCK",),
                beginnings=("bedrock-api-key-", "ABSK"),
                words=("bearer",),
            ),
        ),
        aliases=("bedrock",),
    ),
)
