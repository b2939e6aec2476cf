"""Commits that were made in a clone, as a branch of the repository that it is a copy of.

The guest packs them into a bundle. git on this host checks each object of it, and runs nothing (`engine.clones.git`).
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from engine.clones.git import run_git
from engine.errors import EngineError
from vmm.channel.copy import copy_out
from vmm.channel.errors import GuestError
from vmm.channel.guest import GuestChannel

PACK_S = 600.0
MOST_BYTES = 2 << 30
BUNDLE = "/var/lib/sandbox/clone.bundle"
# In the guest, as root: the repository is the agent's.
PACK = f"""
cd "$1" || exit 1
run="git -c core.fsmonitor=false -c safe.directory=*"
$run rev-parse --verify -q HEAD > /dev/null || {{ echo '{{"commits": 0, "left": 0}}'; exit; }}
count=$($run rev-list --count HEAD ${{2:+^$2}} 2> /dev/null || $run rev-list --count HEAD) || exit 1
left=$($run status --porcelain | wc -l)
rm -f {BUNDLE}
if [ "$count" != 0 ]; then
    $run bundle create -q {BUNDLE} HEAD ${{2:+^$2}} 2> /dev/null || $run bundle create -q {BUNDLE} HEAD || exit 1
fi
printf '{{"commits": %d, "left": %d}}\\n' "$count" "$left"
"""
COUNT = """
cd "$1" || exit 1
run="git -c core.fsmonitor=false -c safe.directory=*"
$run rev-parse --git-dir > /dev/null 2>&1 || { echo 0; exit; }
$run rev-list --count --all --stdin
"""
_CHECKED = [word for key in ("fetch", "transfer") for word in ("-c", f"{key}.fsckObjects=true")]
_QUIET = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules"]
_LOCAL = {"GIT_ALLOW_PROTOCOL": "file"}  # of all transports, that from one directory of this host to another


@dataclass(frozen=True)
class Pulled:
    """`commits` are on the branch now that were not in the copy; `left` files were changed and not committed."""

    branch: str
    commits: int
    left: int


async def count_unnamed(channel: GuestChannel, target: str, refs: tuple[str, ...]) -> int:
    """How many commits any branch of the clone at `target` has that none of `refs` has; 0 without a repository.

    Waits PACK_S for the guest's git. Raises GuestError for a guest that does not say.
    """
    listed = "".join(f"^{ref}\n" for ref in refs).encode()
    done = await channel.run(["sh", "-c", COUNT, "sh", target], stdin=listed, timeout_s=PACK_S)
    try:
        return max(0, int(done.stdout))
    except ValueError:
        raise GuestError("the guest does not say what was committed") from None


def check_branch(source: Path, branch: str, *, force: bool) -> None:
    """Raises EngineError (exit code 2) for a name that is none, and for a branch that is there, unless `force`."""
    if not (source / ".git").exists():
        raise EngineError(f"{source} is no git repository", hint="`sandbox apply` takes files over", exit_code=2)
    if branch.startswith("-") or run_git(["check-ref-format", "--branch", branch], source, codes=range(256)).returncode:
        raise EngineError(f"{branch!r} cannot be the name of a branch", exit_code=2)
    there = run_git(["rev-parse", "--verify", "-q", f"refs/heads/{branch}"], source, codes=(0, 1))
    if there.returncode == 0 and not force:
        raise EngineError(f"there is a branch {branch} already", hint="choose another name, or --force", exit_code=2)


async def pull_commits(
    channel: GuestChannel, target: str, source: Path, head: str | None, branch: str, scratch: Path
) -> Pulled:
    """Make `branch` what HEAD is in the clone at `target`. `head` is what HEAD was when it was made.

    Waits PACK_S for the guest's git. Raises GuestError, and EngineError for what this host's git does not take.
    """
    done = await channel.run(["sh", "-c", PACK, "sh", target, head or ""], timeout_s=PACK_S)
    try:
        told = json.loads(done.stdout)
        commits, left = int(told["commits"]), int(told["left"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        words = done.stderr.decode(errors="replace").strip()
        raise GuestError("the commits could not be packed in the guest", words or None) from None
    if commits <= 0:
        return Pulled(branch, 0, left)
    bundle = scratch / "clone.bundle"
    await copy_out(channel, BUNDLE, bundle, limit=MOST_BYTES)
    take_bundle(source, bundle, branch)
    return Pulled(branch, commits, left)


def take_bundle(source: Path, bundle: Path, branch: str) -> None:
    """Fetch HEAD of the bundle as `branch`. Raises EngineError, also for an object that git would not make.

    It goes through a repository of ours, because git (2.39) checks what it fetches from a repository, and not what it
    takes from a bundle. That lies where the bundle does.
    """
    if not stat.S_ISREG(bundle.lstat().st_mode):
        raise EngineError("the guest's bundle is no file")
    with tempfile.TemporaryDirectory(prefix="pull-", dir=bundle.parent) as directory:
        between = Path(directory)
        form = run_git(["rev-parse", "--show-object-format"], source).stdout.decode().strip()
        run_git(["init", "--quiet", "--bare", f"--object-format={form}", "."], between, own=True)
        # Where it is none, `fetch` would follow what the file says of a repository elsewhere on this host.
        run_git(["bundle", "list-heads", str(bundle)], between, own=True)
        objects = run_git(["rev-parse", "--git-path", "objects"], source).stdout.rstrip(b"\n")
        where = source / os.fsdecode(objects)
        (between / "objects/info/alternates").write_bytes(os.fsencode(where) + b"\n")
        run_git(["fetch", *_QUIET, str(bundle), "+HEAD:refs/heads/it"], between, own=True, more=_LOCAL)
        refspec = f"+refs/heads/it:refs/heads/{branch}"
        run_git([*_CHECKED, "fetch", *_QUIET, str(between), refspec], source, more=_LOCAL)
