"""Each preset by what it lets through: the requests of the services' clients, and those that must not be."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from engine.decoding import decode
from engine.gateway.lfs import LfsDownloads
from engine.gateway.policy import Decision, Policy
from engine.gateway.refusal import Refusal
from engine.gateway.rules import Rule
from engine.resolve import endpoints as module
from engine.resolve.endpoints import Registries, endpoint_places, looks_inside
from engine.resolve.registries import Registry
from engine.resolve.secrets import used_secrets
from sandboxfile import Loaded, parse
from sandboxfile.names import GROUPS

HOSTS = ("packages.example", 443), ("plain.example", 80)


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve_group(name: str, **options: object) -> Registry:
        return Registry(name, (), HOSTS, f"host's {name} configuration", from_host=True)

    monkeypatch.setattr(module, "resolve_group", resolve_group)


def read(*endpoints: str) -> Loaded:
    lines = "".join(f"  - {endpoint}\n" for endpoint in endpoints)
    return parse(f'version: "1"\nsecrets: {{it: {{env: IT}}}}\nendpoints:\n{lines}', Path("/p/Sandboxfile.yaml"))


def policy(*endpoints: str, kinds: dict[str, str | None] | None = None) -> Policy:
    loaded = read(*endpoints)
    return Registries().policy(loaded.sandbox.endpoints, kinds, endpoint_places(loaded))


def judge(policy_: Policy, request: str) -> Decision:
    method, _, rest = request.partition(" ")
    host, slash, path = rest.partition("/")
    return policy_.judge(host, 443, method, slash + path)


GITHUB_READ = """
GET github.com/acme/shop/info/refs?service=git-upload-pack
GET github.com/acme/shop.git/info/refs?service=git-upload-pack
POST github.com/acme/shop.git/git-upload-pack
POST github.com/acme/shop.git/info/lfs/objects/batch
GET github.com/acme/shop/archive/refs/heads/main.tar.gz
GET github.com/acme/shop/releases/download/v1/shop.tar.gz
HEAD api.github.com/repos/acme/shop
GET api.github.com/repos/acme/shop/contents/a?ref=main
GET codeload.github.com/acme/shop/tar.gz/refs/heads/main
GET raw.githubusercontent.com/acme/shop/main/README.md
GET release-assets.githubusercontent.com/github-production-release-asset/1/2?sig=x%2Fy
"""
GITHUB_NOT = """
GET github.com/acme/shop.git/info/refs?service=git-receive-pack
GET github.com/acme/shop.git/info/refs
GET github.com/acme/shop.git/info/refs?service=git-upload-pack&service=git-receive-pack
GET github.com/acme/shop.git/info/refs?service=git%2Dupload-pack
POST github.com/acme/shop.git/git-receive-pack
POST github.com/acme/shop.git/info/lfs/locks
POST github.com/acme/shop.git/info/lfs/locks/verify
POST github.com/acme/other.git/info/lfs/objects/batch
POST github.com/acme/other.git/git-upload-pack
POST github.com/acme%2Fshop/x/git-upload-pack
POST github.com/acme/shop/../other/git-upload-pack
POST github.com/acme/shop;x/git-upload-pack
GET github.com/acme/shopping/info/refs?service=git-upload-pack
POST github.com/login/oauth/access_token
POST api.github.com/graphql
GET api.github.com/user
GET api.github.com/repos/acme/other
GET api.github.com/repositories/1
GET api.github.com/repos/acme/shop%2Fx
POST api.github.com/repos/acme/shop/issues
PUT api.github.com/repos/acme/shop/contents/a
PUT api.github.com/repos/acme/shop/pulls/1/merge
POST api.github.com/repos/acme/shop/git/refs
DELETE api.github.com/repos/acme/shop
POST raw.githubusercontent.com/acme/shop/main/README.md
GET raw.githubusercontent.com/acme/other/main/README.md
GET codeload.github.com/acme/other/zip/main
GET gist.github.com/acme/1
POST uploads.github.com/repos/acme/shop/releases/1/assets
"""
ISSUES = """
GET api.github.com/repos/acme/shop/issues?state=all
GET api.github.com/repos/acme/shop/pulls/1/files
POST api.github.com/repos/acme/shop/issues
PATCH api.github.com/repos/acme/shop/issues/1
POST api.github.com/repos/acme/shop/issues/1/comments
PATCH api.github.com/repos/acme/shop/issues/comments/7
POST api.github.com/repos/acme/shop/issues/1/labels
POST api.github.com/repos/acme/shop/pulls
PATCH api.github.com/repos/acme/shop/pulls/1
POST api.github.com/repos/acme/shop/pulls/1/comments
"""
ISSUES_NOT = """
GET api.github.com/repos/acme/shop/contents/a
POST api.github.com/repos/acme/shop/pulls/1/reviews
PUT api.github.com/repos/acme/shop/pulls/1/merge
PUT api.github.com/repos/acme/shop/pulls/1/update-branch
PUT api.github.com/repos/acme/shop/issues/1/lock
DELETE api.github.com/repos/acme/shop/issues/comments/7
POST api.github.com/repos/acme/shop/labels
POST api.github.com/repos/acme/shop/hooks
POST api.github.com/repos/acme/other/issues
POST api.github.com/graphql
POST github.com/acme/shop/git-upload-pack
"""
CASES = {
    "{github: acme/shop}": (GITHUB_READ, GITHUB_NOT),
    "{github: [acme/other, acme/shop], access: issues}": (ISSUES, ISSUES_NOT.replace("acme/other", "acme/third")),
    "{github: acme/shop, access: [read, issues]}": (GITHUB_READ + ISSUES, "POST api.github.com/graphql"),
    "{github: acme/shop, access: graphql}": ("POST api.github.com/graphql", "GET api.github.com/repos/acme/shop"),
    "{github: acme/*}": (
        GITHUB_READ + GITHUB_READ.replace("shop", "other"),
        "GET api.github.com/repos/acme\nGET api.github.com/repos/evil/shop\nGET github.com/acme/x/y/info/refs",
    ),
    "{github: acme/shop, push: [agent/*]}": (
        GITHUB_READ
        + "GET github.com/acme/shop/info/refs?service=git-receive-pack\nPOST github.com/acme/shop/git-receive-pack",
        "POST github.com/acme/other/git-receive-pack\nPOST api.github.com/repos/acme/shop/git/refs",
    ),
    "{group: npm, access: read}": (
        "GET packages.example/@a%2fb\nHEAD packages.example/a/-/a-1.tgz\nGET packages.example/-/v1/search?text=a",
        "PUT packages.example/a\n"
        "POST packages.example/-/npm/v1/security/advisories/bulk\n"
        "DELETE packages.example/a/-rev/1\n"
        "PUT packages.example/-/user/org.couchdb.user:a",
    ),
    "{group: npm, access: [read, audit]}": (
        "POST packages.example/-/npm/v1/security/advisories/bulk\n"
        "POST packages.example/a/b/-/npm/v1/security/audits/quick",
        "POST packages.example/-/npm/v1/tokens",
    ),
    "{group: pypi, access: read}": (
        "GET packages.example/simple/a/",
        "POST packages.example/legacy/\nPUT packages.example/a",
    ),
    "{group: debian, access: read}": ("GET packages.example/dists/trixie/InRelease", "POST packages.example/x"),
    "anthropic": (
        "POST api.anthropic.com/v1/messages?beta=true\nPOST api.anthropic.com/v1/messages/count_tokens\n"
        "GET api.anthropic.com/v1/models/claude-x\nHEAD api.anthropic.com/api/hello",
        "POST api.anthropic.com/v1/files\n"
        "GET api.anthropic.com/v1/files\n"
        "POST api.anthropic.com/v1/messages/batches\n"
        "GET api.anthropic.com/v1/organizations/users\nPOST api.anthropic.com/v1/skills\n"
        "POST api.anthropic.com/api/event_logging/batch\nGET api.anthropic.com/api/oauth/profile\n"
        "POST platform.claude.com/v1/oauth/token",
    ),
    "openai": (
        "POST api.openai.com/v1/responses\nGET api.openai.com/v1/responses\nPOST api.openai.com/v1/chat/completions\n"
        "POST api.openai.com/v1/responses/compact\nGET api.openai.com/v1/models",
        "POST api.openai.com/v1/files\nPOST api.openai.com/v1/uploads\nGET api.openai.com/v1/responses/resp_1\n"
        "DELETE api.openai.com/v1/models/ft\n"
        "GET api.openai.com/v1/organization/users\n"
        "POST api.openai.com/v1/batches\n"
        "GET api.openai.com/v1/chat/completions\nPOST api.openai.com/v1/vector_stores",
    ),
    "google": (
        "POST generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse\n"
        "POST generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:countTokens\n"
        "GET generativelanguage.googleapis.com/v1beta/models",
        "POST generativelanguage.googleapis.com/upload/v1beta/files\n"
        "POST generativelanguage.googleapis.com/v1beta/cachedContents\n"
        "POST generativelanguage.googleapis.com/v1beta/tunedModels\n"
        "POST generativelanguage.googleapis.com/v1beta/models/m:batchGenerateContent",
    ),
    "openrouter": (
        "POST openrouter.ai/api/v1/chat/completions",
        "POST openrouter.ai/api/v1/keys\nGET openrouter.ai/api/v1/credits",
    ),
    "groq": ("POST api.groq.com/openai/v1/chat/completions", "POST api.groq.com/openai/v1/files"),
    "xai": (
        "POST api.x.ai/v1/responses",
        "POST api.x.ai/v1/files\nGET api.x.ai/v1/api-key\nGET api.x.ai/v1/responses/1",
    ),
    "mistral": (
        "POST api.mistral.ai/v1/chat/completions",
        "POST api.mistral.ai/v1/files\nPOST api.mistral.ai/v1/agents",
    ),
    "vscode": (
        "GET update.code.visualstudio.com/commit:abc/server-linux-x64/stable\n"
        "GET vscode.download.prss.microsoft.com/dbazure/download/stable/abc/vscode-server-linux-x64.tar.gz\n"
        "GET marketplace.visualstudio.com/_apis/public/gallery/publishers/p/vsextensions/e/1.2.3/vspackage\n"
        "POST marketplace.visualstudio.com/_apis/public/gallery/extensionquery\n"
        "GET p.gallerycdn.vsassets.io/extensions/p/e/1.2.3/Microsoft.VisualStudio.Services.VSIXPackage",
        "POST marketplace.visualstudio.com/_apis/public/gallery/publishers/p/extensions/e/1.2.3/stats\n"
        "PUT marketplace.visualstudio.com/_apis/gallery/publishers/p/extensions/e\n"
        "GET marketplace.visualstudio.com/_apis/profile/profiles/me\n"
        "POST update.code.visualstudio.com/x\nPOST p.gallerycdn.vsassets.io/x",
    ),
    "docker-hub": (
        "GET auth.docker.io/token?scope=repository:library/alpine:pull\nGET registry-1.docker.io/v2/\n"
        "HEAD registry-1.docker.io/v2/library/alpine/manifests/3\n"
        "GET production.cloudflare.docker.com/registry-v2/x?a=%2F",
        "POST registry-1.docker.io/v2/me/x/blobs/uploads/\nPUT registry-1.docker.io/v2/me/x/manifests/1\n"
        "PATCH registry-1.docker.io/v2/me/x/blobs/uploads/1\nPOST auth.docker.io/token\nGET hub.docker.com/v2/users",
    ),
    "ghcr": ("GET ghcr.io/v2/a/b/manifests/1\nGET ghcr.io/token?x=y", "POST ghcr.io/v2/a/b/blobs/uploads/"),
    "quay": (
        "GET quay.io/v2/a/b/manifests/1\nGET cdn01.quay.io/x",
        "PUT quay.io/v2/a/b/manifests/1\nGET quay.io/api/v1/user",
    ),
}


@pytest.mark.parametrize("endpoint", CASES)
def test_what_it_lets_through_and_what_not(endpoint: str) -> None:
    one = policy(endpoint)
    wanted, unwanted = ([line for line in text.splitlines() if line] for text in CASES[endpoint])
    assert [request for request in wanted if not judge(one, request).allowed] == []
    assert [request for request in unwanted if judge(one, request).allowed] == []
    assert looks_inside(read(endpoint).sandbox.endpoints) and one.looks_inside


@pytest.mark.parametrize("endpoint", CASES)
def test_nothing_goes_without_tls_but_to_registries_that_are_configured_so(endpoint: str) -> None:
    ports = {rule.port for rule in policy(endpoint).rules}
    assert ports == ({None} if any(group in endpoint for group in GROUPS) else {443})


@pytest.mark.parametrize("method", ["X-HTTP-Method-Override", "_method"])
def test_no_other_method_comes_in_by_the_side(method: str) -> None:
    one = policy("{github: acme/shop}")
    path = "/repos/acme/shop" + ("?_method=DELETE" if method == "_method" else "")
    overrides = () if method == "_method" else ("DELETE",)
    assert not one.judge("api.github.com", 443, "GET", path, overrides).allowed


def test_the_secret_goes_where_the_file_of_the_preset_says() -> None:
    one = policy("{github: acme/shop, push: main, secret: it}", kinds={"it": None})
    forms = {
        request: [injection.form for injection in judge(one, request).injections]
        for request in (
            "GET github.com/acme/shop/info/refs?service=git-upload-pack",
            "POST github.com/acme/shop/git-receive-pack",
            "GET api.github.com/repos/acme/shop",
            "GET raw.githubusercontent.com/acme/shop/main/a",
            "GET codeload.github.com/acme/shop/zip/main",
            "GET release-assets.githubusercontent.com/x",
        )
    }
    assert list(forms.values()) == [["basic"], ["basic"], ["bearer"], ["bearer"], [], []]
    hosts = used_secrets(read("{github: acme/shop, push: main, secret: it}"))
    assert hosts == {"it": ("github.com", "api.github.com", "raw.githubusercontent.com")}
    assert used_secrets(read("{group: anthropic, secret: it}")) == {"it": ("api.anthropic.com",)}
    assert not any(rule.injections for rule in policy("{github: acme/shop, secret: it}").rules)  # a build's


def advice(one: Policy, request: str) -> str:
    decision = judge(one, request)
    assert not decision.allowed
    return Refusal(403, decision.reason, request.split(" ")[1].split("/")[0], 443, decision).text()


def test_a_refusal_says_what_is_allowed_and_the_edit() -> None:
    one = policy("{github: acme/other}", "{github: acme/shop, secret: it}")
    text = advice(one, "POST api.github.com/repos/acme/shop/issues")
    assert text.splitlines() == [
        "sandbox: refused api.github.com:443: endpoints[1] (github acme/shop: read) does not allow"
        " POST api.github.com:443/repos/acme/shop/issues",
        "This endpoint is for GitHub of acme/shop: clone and fetch, GET of the REST API, archives, raw files and"
        " release assets.",
        "To allow it, change Sandboxfile.yaml:5: - {github: acme/shop, access: [read, issues], secret: it}",
        "What it writes is public where the repository is, and it mentions and notifies people.",
    ]
    assert "- {github: acme/other, push: [agent/*]}" in advice(one, "POST github.com/acme/other/git-receive-pack")
    graphql = advice(one, "POST api.github.com/graphql")
    assert "access: [read, graphql]" in graphql and "Prefer the REST API" in graphql
    merge = advice(one, "PUT api.github.com/repos/acme/shop/pulls/1/merge")
    assert "This endpoint is for GitHub" in merge and "To allow" not in merge
    assert "- {group: npm, access: [read, audit]}" in advice(
        policy("{group: npm, access: read}"), "POST packages.example/-/npm/v1/security/advisories/bulk"
    )


def test_two_endpoints_of_one_service_are_told_apart() -> None:
    one = policy("{github: acme/shop}", "{github: acme/web, push: [agent/*]}")
    assert judge(one, "POST github.com/acme/web/git-receive-pack").checks
    assert not judge(one, "POST github.com/acme/shop/git-receive-pack").allowed
    pushed = policy("{github: acme/shop, push: [agent/*]}", "{github: acme/*, push: [docs], changes: [create]}")
    decision = judge(pushed, "POST github.com/acme/shop/git-receive-pack")
    assert [check.refs for check in decision.checks] == [("refs/heads/agent/*",), ("refs/heads/docs",)]  # type: ignore[attr-defined]


def test_a_group_without_access_is_as_it_was() -> None:
    one = policy("npm")
    assert not one.looks_inside and judge(one, "PUT packages.example/a").allowed


@pytest.mark.parametrize("endpoint", CASES)
def test_the_supervisor_gets_the_same_rules(endpoint: str) -> None:
    rules = tuple(policy(endpoint).rules)
    sent = json.loads(json.dumps([asdict(rule) for rule in rules]))
    assert decode(tuple[Rule, ...], sent) == rules


def test_a_batch_of_lfs_must_download() -> None:
    decision = judge(policy("{github: acme/shop}"), "POST github.com/acme/shop.git/info/lfs/objects/batch")
    assert decision.checks == (LfsDownloads(),)


def test_plain_http_is_not_told_to_name_the_host() -> None:
    decision = policy("{github: acme/shop}").decide("github.com", 80)
    text = Refusal(403, decision.reason, "github.com", 80, decision).text()
    assert "is for https alone" in text and "- github.com" not in text
