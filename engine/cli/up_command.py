"""`sandbox up`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import json_option, path_argument

if TYPE_CHECKING:
    from engine.instances import Instance
    from engine.layout import Layout


@click.command(
    "up",
    epilog="""\b
Examples:
  sandbox up                        this project's sandbox, with its agent in this terminal
  sandbox up -d ../shop             that project's, and return when it is ready
  sandbox up -d --yes --json        in scripts
  sandbox up --name shop-2          a second one from the same file
""",
)
@click.option("-d", "--detach", is_flag=True, help="Return when the sandbox is ready; do not run the agent.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing: approve what the file asks of this host.")
@click.option(
    "-n",
    "--name",
    metavar="NAME",
    help="The sandbox's name; default: the file's. Several names run one file several times.",
)
@click.option("--recreate", is_flag=True, help="Replace a running sandbox whose file has changed.")
@click.option("--shell-on-failure", is_flag=True, help="Open a shell in the guest where a setup step failed.")
@click.option(
    "--build-in",
    type=click.Choice(["auto", "native", "builder"]),
    default="auto",
    show_default=True,
    help="Where the guest image is built: on this host, or in a machine that needs no privilege.",
)
@click.option(
    "--progress",
    type=click.Choice(["auto", "plain", "quiet", "json"]),
    default="auto",
    show_default=True,
    help="How progress is shown on standard error; auto: live on a terminal, else plain lines.",
)
@json_option("The summary as JSON on standard output; implies -d.")
@path_argument
def command(path: Path | None, detach: bool, name: str | None, as_json: bool, **wishes: Any) -> int:
    """Start the sandbox that Sandboxfile.yaml describes, and run its agent in this terminal.

    PATH is a directory or a file; default: the nearest Sandboxfile.yaml upwards. Shows first what will be built and
    why. When the agent ends, the sandbox goes on until `sandbox down`.
    """
    from engine.cli.bring_up import Wishes, bring_up
    from engine.cli.project_file import load_file
    from engine.cli.selection import check_name, open_layout
    from engine.cli.summary import show_summary, to_json

    began = time.monotonic()
    loaded, layout = load_file(path), open_layout()
    name = check_name(layout, loaded.sandbox.name if name is None else name)
    instance, started = bring_up(loaded, layout, name, Wishes(**wishes))
    seconds = time.monotonic() - began
    if as_json:
        import json

        click.echo(json.dumps(to_json(instance, seconds), indent=2))
        return 0
    runs_agent = not detach and bool(instance.summary.get("agent"))
    show_summary(instance, seconds if started else None, on_stderr=runs_agent)  # standard output is then the agent's
    return _run_agent(layout, instance) if runs_agent else 0


def _run_agent(layout: Layout, instance: Instance) -> int:
    from engine.cli.attached import run_attached

    summary = instance.summary
    return run_attached(
        layout.instance(instance.name).sockets.control,
        summary["agent"],
        tty=sys.stdin.isatty() and sys.stdout.isatty(),
        interactive=True,
        user=summary["agent_user"],
        cwd=summary["working_directory"],
        env=summary["agent_env"],
    )
