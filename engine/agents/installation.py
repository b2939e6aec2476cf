"""The `install` section of an `agent.yaml`: how an agent gets into the guest's image."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.agents.words import knows
from sandboxfile.diagnostics import one_of
from sandboxfile.sections.agent import Version
from sandboxfile.sections.endpoints import Host
from sandboxfile.sections.fields import Grammar, Maybe, OneOf, Part, Script, Text, refuse
from sandboxfile.sections.machine import PackageName

HttpsUrl = Annotated[Text, Grammar(r"^https://[a-z0-9.-]+(/[^\x00-\x20\x7f]*)?$", "must be an https URL")]
PackageOfNpm = Annotated[Text, Grammar(r"^(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*$", "must be a package")]
Integrity = Annotated[Text, Grammar(r"^sha512-[A-Za-z0-9+/]{86}==$", "must be sha512- and 88 characters of base64")]
Sha256 = Annotated[Text, Grammar(r"^[0-9a-f]{64}$", "must be 64 hexadecimal digits")]
Directory = Annotated[Text, Grammar(r"^/opt/[a-z0-9][a-z0-9._-]*$", "must be a directory in /opt")]
InnerPath = Annotated[Text, Grammar(r"^(?!/)(?!(.*/)?\.\.(/|$))[^\x00-\x20\x7f]+$", "must be a path in the archive")]
LockFile = Annotated[Text, Grammar(r"^[a-z0-9][a-z0-9._-]*\.json$", "must be the name of a JSON file beside this one")]
Program = Annotated[Text, Grammar(r"^[a-z0-9][a-z0-9._-]*$", "must be a program's name")]
Links = Annotated[dict[Program, InnerPath], Field(min_length=1)]


class Package(Part):
    """One package of the npm registry. Its digest ensures that what is unpacked is what was looked at."""

    package: PackageOfNpm = Field(description="The package's name in the npm registry.")
    version: Annotated[Text, knows("version")] = Field(
        default="{{version}}", description="Its version; default: the agent's."
    )
    integrity: Integrity = Field(description="The registry's digest of this package in the version named here.")


class Unpack(Part):
    """A package with a ready-made program for each architecture. It is only unpacked: none of its scripts run."""

    amd64: Maybe[Package] = Field(default=None, description="The package for x86-64.")
    arm64: Maybe[Package] = Field(default=None, description="The package for 64-bit ARM.")
    into: Directory = Field(description="The directory that it is unpacked into.")
    links: Links = Field(description="Programs on the guest's PATH, and where they are; * is any one directory.")

    @model_validator(mode="after")
    def _for_something(self) -> Unpack:
        if self.amd64 is None and self.arm64 is None:
            raise refuse("needs `amd64` or `arm64`")
        return self


class NpmInstall(Part):
    """A package that the guest's npm installs globally, with what it depends on."""

    package: PackageOfNpm = Field(description="The package's name in the npm registry.")
    integrity: Maybe[Integrity] = Field(
        default=None, description="The registry's digest of this package. Default: what the registry says on the day."
    )
    scripts: tuple[PackageOfNpm, ...] = Field(
        default=(), description="Packages whose install scripts may run; others are installed without."
    )
    optional: bool = Field(default=True, description="Whether optional dependencies are installed, too.")
    lock: Maybe[LockFile] = Field(
        default=None,
        description="npm's lock file of the usual version, beside this file: then the host fetches and unpacks all the"
        " packages, each checked by its digest, and npm is only asked for other versions. No scripts run then.",
    )
    without: tuple[InnerPath, ...] = Field(
        default=(),
        description="Files of the package that are left out with a lock file, such as a mark that scripts have to run.",
    )

    @property
    def directory(self) -> str:
        """Where the packages of a lock file are in the guest."""
        return f"/opt/{self.package.rpartition('/')[2]}"

    @model_validator(mode="after")
    def _belongs_to_a_lock(self) -> NpmInstall:
        if self.without and self.lock is None:
            raise refuse("belongs to `lock`", key="without")
        return self


class Digests(Part):
    """The SHA-256 of a download in the version that the definition names."""

    amd64: Maybe[Sha256] = Field(default=None, description="That of the download for x86-64.")
    arm64: Maybe[Sha256] = Field(default=None, description="That of the download for 64-bit ARM.")


class Download(Part):
    """A program that is downloaded from its vendor."""

    amd64: Maybe[Annotated[HttpsUrl, knows("version")]] = Field(default=None, description="The URL for x86-64.")
    arm64: Maybe[Annotated[HttpsUrl, knows("version")]] = Field(default=None, description="The URL for 64-bit ARM.")
    sha256: Maybe[Digests] = Field(
        default=None,
        description="Digests of the downloads. Without one, and for another version, TLS alone says whose it is.",
    )
    hosts: tuple[Host, ...] = Field(default=(), description="Hosts that the URL redirects to.")
    unpack: Maybe[Annotated[Literal["zip", "tar.gz"], OneOf(("zip", "tar.gz"))]] = Field(
        default=None, description="The archive's kind. Default: the file is the program itself."
    )
    into: Directory = Field(description="The directory that it is put into.")
    links: Links = Field(description="Programs on the guest's PATH, and where they are; * is any one directory.")

    @model_validator(mode="after")
    def _for_something(self) -> Download:
        if self.amd64 is None and self.arm64 is None:
            raise refuse("needs `amd64` or `arm64`")
        return self


class InstallStep(Part):
    """One step of the installation, of one of these kinds. It runs in the guest, behind the gateway."""

    unpack: Maybe[Unpack] = Field(default=None, description="Unpack a package of the npm registry.")
    npm: Maybe[NpmInstall] = Field(default=None, description="Let npm install a package globally.")
    download: Maybe[Download] = Field(default=None, description="Fetch a program from its vendor.")
    run: Maybe[Annotated[Script, knows("version")]] = Field(
        default=None, description="Shell commands, run in the home directory of the agent's user."
    )
    hosts: tuple[Host, ...] = Field(default=(), description="Hosts that `run` needs.")

    @model_validator(mode="after")
    def _exactly_one(self) -> InstallStep:
        given = [name for name in ("unpack", "npm", "download", "run") if getattr(self, name) is not None]
        if len(given) != 1:
            raise refuse(f"must have one of unpack, npm, download and run, got {one_of(given) if given else 'none'}")
        if self.hosts and self.run is None:
            raise refuse("belongs to `run`; the other kinds know their hosts", key="hosts")
        return self


class Installation(Part):
    """How an image with this agent is made. All steps run in the guest."""

    version: Version = Field(description="The version that is installed where the Sandboxfile names no other.")
    packages: tuple[PackageName, ...] = Field(default=(), description="Debian packages that it needs.")
    steps: Annotated[tuple[InstallStep, ...], Field(min_length=1, max_length=20)] = Field(
        description="How it gets into the guest, in order."
    )
