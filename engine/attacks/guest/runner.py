"""Runs attempts one after another, each in a process of its own with a deadline, and bookmarks the journal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import sys
import time
import traceback
from typing import Any

from engine.attacks.guest.containers import inside, shell
from engine.attacks.guest.fuse import give_back, naming, take
from engine.attacks.guest.packets import Wire
from engine.attacks.guest.talk import Talk

BOOKMARK = re.compile(r"attempt-([0-9]+)\.bookmark\.invalid")
LONGEST_S = 300.0  # of the longest attempts: a busy host runs a container in two minutes that takes ten seconds
# The last line of what an attempt says: its program came to its end, raised an exception, or had to be killed.
RAN, RAISED, KILLED = "[ran]", "[raised]", "[killed]"
_MOST = 6000  # characters of what an attempt says


def run(order: dict[str, Any]) -> None:
    """Print a line of JSON for each attempt."""
    talk = Talk(order["stage"]["gateway"])
    for number, case in enumerate(order["cases"]):
        with contextlib.suppress(OSError):  # a journal without it shows that
            talk.http(talk.ask("GET", "/", host=f"attempt-{number}.bookmark.invalid"))
        began, said = time.monotonic(), _attempt(case, order["stage"])
        answer = {"label": case["label"], "said": said, "seconds": round(time.monotonic() - began, 1)}
        json.dump(answer, sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        talk.http(talk.ask("GET", "/", host=f"attempt-{len(order['cases'])}.bookmark.invalid"))


def _attempt(case: dict[str, str], stage: dict[str, Any]) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.setsid()
        with os.fdopen(writer, "w", errors="backslashreplace") as out:
            words, end = _say(case, stage)
            out.write(f"{words[:_MOST]}\n{end}")
        os._exit(0)
    os.close(writer)
    said, deadline = b"", time.monotonic() + LONGEST_S
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            if not (data := os.read(reader, 65536)):
                break
            said += data
    else:
        said += b"\n" + KILLED.encode()
    os.close(reader)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return said.decode(errors="replace")


def _say(case: dict[str, str], stage: dict[str, Any]) -> tuple[str, str]:
    """What it says, and RAN or RAISED."""
    words: list[str] = []
    end = RAN
    talk = Talk(stage["gateway"])
    names: dict[str, Any] = {name: getattr(talk, name) for name in dir(talk) if not name.startswith("_")}
    names |= {**stage, "value": case["value"], "say": lambda what: words.append(str(what)), "sh": shell, "Wire": Wire}
    names |= {"take": take, "naming": naming, "give_back": give_back, "inside": inside}
    try:
        exec(compile(case["attack"], case["label"], "exec"), names)
    except (Exception, SystemExit) as error:
        end = RAISED
        words.append(f"{type(error).__name__}: {error}")
        if not isinstance(error, OSError | SystemExit):
            words.append(traceback.format_exc(limit=-2))
    return "\n".join(words), end
