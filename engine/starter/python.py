"""Proposals for a project in Python.

The machine is for this project alone, so its dependencies are installed as the user's own packages: every `python3`
finds them there, and no live mount hides them.
"""

from __future__ import annotations

import posixpath
import re

from engine.starter import headers
from engine.starter.hosts import host_of
from engine.starter.project_tree import Project, table, word, words
from engine.starter.proposals import Findings
from engine.starter.registries import propose_registry
from engine.starter.versions import DEBIAN, Asked, asked_version, differs, shown

MARKS = ("uv.lock", "poetry.lock", "Pipfile", "requirements.txt", "pyproject.toml", "setup.py")
ENVIRONMENT = "/home/agent/.venv"
_PIP = "pip install --user --break-system-packages"

_FOR_TESTS = (
    *("requirements-dev.txt", "requirements-test.txt", "requirements_dev.txt", "requirements_test.txt"),
    *("dev-requirements.txt", "test-requirements.txt", "requirements/dev.txt", "requirements/test.txt"),
)

_INDEX = re.compile(r"\s*(?:-i|--index-url|--extra-index-url)[= ]\s*(\S+)")
_OTHER_FILE = re.compile(r"\s*(?:-r|-c|--requirement|--constraint)[= ]?\s*(\S+)")
_FROM_GIT = re.compile(r"git\+(?:https?|ssh)://[^\s#;]+")
_LOCAL = re.compile(r"\s*(?:-e\s|--editable|\.{1,2}(/|\s*$)|\S+\s*@\s*file:)")
LISTED = (
    'python3 -c \'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"],'
    f' sep="\\n")\' > /tmp/requirements.txt && {_PIP} -r /tmp/requirements.txt'
)


def look(project: Project, found: Findings) -> None:
    """Propose the group pypi, and an installation with the tool that has locked the dependencies."""
    files = project.inputs(*MARKS)
    if not files:
        return
    found.propose("endpoints", "pypi", f"from {files[0]}")
    data = project.toml("pyproject.toml")
    for url in _indexes(data):
        if host := host_of(url):
            found.propose("endpoints", host, "an index in pyproject.toml")
    _propose_version(project, found, data)
    headers.propose_headers(project, found, files, headers.PYTHON)
    if "uv.lock" in files:
        _propose_uv(project, found, data)
    elif "poetry.lock" in files:
        _propose_poetry(project, found)
    elif "Pipfile" in files:
        _propose_pipenv(project, found)
    elif "requirements.txt" in files:
        _propose_pip(project, found)
    elif words(table(data, "project").get("dependencies")):
        found.propose(
            "setup", {"run": LISTED, "inputs": ["pyproject.toml"]}, "the dependencies that pyproject.toml lists"
        )
    elif "setup.py" in files or table(data, "build-system"):
        name = "setup.py" if "setup.py" in files else "pyproject.toml"
        step = {"run": f"{_PIP} -e .", "inputs": project.inputs("setup.py", "setup.cfg", "pyproject.toml")}
        found.propose("setup", step, f"from {name}; the package's files are inputs, too", active=False)
    _note_extras(found, data, "uv.lock" in files)
    if not {"poetry.lock", "Pipfile"} & set(files):  # these take a `.venv` that is there for their environment
        found.keep_local(project.root, ".venv")


def _note_extras(found: Findings, data: dict[str, object], uv: bool) -> None:
    """Name the extras and groups of pyproject.toml that tests may need, and that no step installs."""
    extras, groups = table(data, "project", "optional-dependencies"), table(data, "dependency-groups")
    names = ("dev", "test", "tests", "testing")
    wanting = [name for name in names if name in extras or (name in groups and not (uv and name == "dev"))]
    if wanting:
        found.note(f"setup does not install what pyproject.toml lists for {', '.join(wanting)}: add it to a step")


def _indexes(data: dict[str, object]) -> list[str]:
    urls = []
    for tool, key in (("uv", "index"), ("poetry", "source")):
        entries = table(data, "tool", tool).get(key)
        urls += (
            [word(entry, "url") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        )
    return urls


def _propose_version(project: Project, found: Findings, data: dict[str, object]) -> None:
    asked = _asked(project, data)
    if asked is None or not differs(asked, "python"):
        return
    why = f"{asked.seen} asks for {asked.text}; the machine has {shown('python')}"
    propose_registry(found, "python", asked.seen)
    if project.text("uv.lock") is not None:
        found.note(f"{why}: uv fetches its own")
        return
    run = f"{_PIP} uv && ~/.local/bin/uv python install {asked.text}"
    found.propose("setup", run, why, active=False)


def _asked(project: Project, data: dict[str, object]) -> Asked | None:
    wanted = [
        (word(data, "project", "requires-python"), "requires-python in pyproject.toml"),
        (word(data, "tool", "poetry", "dependencies", "python"), "pyproject.toml"),
    ]
    for text, seen in wanted:
        if excluded := _excluding(text):
            lower = re.search(r">=\s{0,3}(3\.[0-9]{1,3})", text)
            return Asked(lower[1] if lower else excluded, seen, exact=True)
    return asked_version(project, "python", (".python-version", "runtime.txt"), wanted)


def _excluding(text: str) -> str:
    """The part of a requirement on Python that excludes what the machine has; "" when none does."""
    minor = DEBIAN["python"][1]
    for sign, number, patch in re.findall(r"(<=|<|==|~=|~)\s{0,3}3\.([0-9]{1,3})(\.[0-9*]{1,3})?", text):
        below = int(number) + (sign == "<=") <= minor if sign[0] == "<" else int(number) != minor
        if below and (sign != "~=" or patch):  # ~=3.10 is any 3 from 3.10 on
            return f"3.{int(number) - (sign == '<')}"
    return ""


def _propose_uv(project: Project, found: Findings, data: dict[str, object]) -> None:
    found.propose("setup", f"{_PIP} uv", "from uv.lock")
    inputs = project.inputs("pyproject.toml", "uv.lock", ".python-version")
    shared = table(data, "tool", "uv", "workspace")
    manifests = [
        path for member in words(shared.get("members")) for path in project.matching(f"{member}/pyproject.toml")
    ]
    whole = not shared or bool(manifests)
    step = {
        "run": f"~/.local/bin/uv sync --frozen {'--no-install-workspace' if shared else '--no-install-project'}",
        "inputs": inputs + manifests,
        "env": {"UV_PROJECT_ENVIRONMENT": ENVIRONMENT},
    }
    seen = "from uv.lock" if whole else "from uv.lock; its workspace is an input, too"
    found.propose("setup", step, seen, active=whole)
    # Without it the agent's `uv run` would make another environment, in the project.
    found.propose(("agent", "env", "UV_PROJECT_ENVIRONMENT"), ENVIRONMENT, "where uv sync has installed")


def _propose_poetry(project: Project, found: Findings) -> None:
    found.propose("setup", f"{_PIP} poetry", "from poetry.lock")
    run = "~/.local/bin/poetry install --no-root --no-interaction"
    found.propose("setup", {"run": run, "inputs": project.inputs("pyproject.toml", "poetry.lock")}, "from poetry.lock")


def _propose_pipenv(project: Project, found: Findings) -> None:
    for url in re.findall(r'(?m)^[ \t]*url[ \t]*=[ \t]*"([^"\n]{1,500})"', project.text("Pipfile") or ""):
        if host := host_of(url):
            found.propose("endpoints", host, "a source in Pipfile")
    locked = project.text("Pipfile.lock") is not None
    found.propose("setup", f"{_PIP} pipenv", "from Pipfile")
    step = {
        "run": f"~/.local/bin/pipenv {'sync' if locked else 'install --skip-lock'} --dev",
        "inputs": project.inputs("Pipfile", "Pipfile.lock"),
    }
    found.propose("setup", step, f"from Pipfile{'.lock' if locked else ''}")


def _propose_pip(project: Project, found: Findings) -> None:
    inputs, complete = _requirements(project, found, "requirements.txt")
    run = f"{_PIP} -r requirements.txt"
    for name in project.inputs(*_FOR_TESTS):
        if name in inputs:
            continue
        further, whole = _requirements(project, found, name)
        if whole:
            run += f" -r {name}"
            inputs += [other for other in further if other not in inputs]
        else:
            found.note(f"setup does not install what {name} names: it reads more files")
    headers.propose_headers(project, found, inputs[1:], headers.PYTHON)
    seen = "from requirements.txt" if complete else "from requirements.txt; more files are inputs"
    found.propose("setup", {"run": run, "inputs": inputs}, seen, active=complete)


def _requirements(project: Project, found: Findings, first: str) -> tuple[list[str], bool]:
    """The files of requirements that `first` reads, with itself, and whether those are all files that pip reads."""
    inputs, complete = [first], True
    for name in inputs:
        for line in (project.text(name) or "").splitlines():
            if match := _OTHER_FILE.match(line):
                other = posixpath.normpath(posixpath.join(posixpath.dirname(name), match[1]))
                if project.text(other) is None or len(inputs) > 20:
                    complete = False
                elif other not in inputs:
                    inputs.append(other)
            elif (match := _INDEX.match(line)) and (host := host_of(match[1])):
                found.propose("endpoints", host, f"an index in {name}")
            elif _LOCAL.match(line):
                complete = False
            elif (match := _FROM_GIT.search(line)) and (host := host_of(match[0])):
                found.propose("endpoints", host, f"a dependency in {name}")
    return inputs, complete
