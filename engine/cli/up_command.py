"""`sandbox up`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from engine.errors import EngineError
    from engine.guests import Guest
    from engine.instances import Instance
    from engine.layout import Layout
    from engine.up import Project
    from sandboxfile import Loaded


@click.command("up")
@click.option("-d", "--detach", is_flag=True, help="Return when the sandbox is ready; do not run the agent.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing: approve what the file asks of this host.")
@click.option("-n", "--name", help="The sandbox's name; default: the file's. Several names run one file several times.")
@click.option("--recreate", is_flag=True, help="Replace a running sandbox whose file has changed.")
@click.option("--shell-on-failure", is_flag=True, help="Open a shell in the guest where a setup step failed.")
@click.option(
    "--build-in",
    type=click.Choice(["auto", "native", "builder"]),
    default="auto",
    show_default=True,
    help="Where the guest image is built: on this host, or in a machine that needs no privilege.",
)
@click.option("--progress", type=click.Choice(["auto", "plain", "quiet", "json"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on standard output.")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def command(
    path: Path | None,
    detach: bool,
    yes: bool,
    name: str | None,
    recreate: bool,
    shell_on_failure: bool,
    build_in: str,
    progress: str,
    as_json: bool,
) -> int:
    """Start the sandbox that Sandboxfile.yaml describes and run its agent in this terminal.

    PATH is a directory or a file; default: the nearest Sandboxfile.yaml upwards.
    """
    from engine.cli.selection import load_file, open_layout
    from engine.instances import claim, look_up
    from engine.up import Project

    began = time.monotonic()
    loaded = load_file(path)
    layout = open_layout()
    project = Project.of(loaded, layout, build_place=build_in)
    name = name or loaded.sandbox.name
    with claim(layout, name, loaded.project):
        listed = look_up(layout, name)
        if listed.liveness in ("running", "unresponsive") and listed.instance is not None and not recreate:
            instance = listed.instance
            _check_unchanged(project, instance)
            click.echo(f"{name} is already running and unchanged", err=True)
        else:
            if listed.instance is not None:
                from engine.down import take_down

                click.echo(f"removing the previous {name} ({listed.status})", err=True)
                asyncio.run(take_down(layout, listed))
            _approve(loaded, yes)
            instance = _bring_up(project, name, progress, shell_on_failure)
    _show(instance, time.monotonic() - began, as_json)
    if detach or not instance.summary.get("agent"):
        return 0
    return _run_agent(layout, instance)


def _check_unchanged(project: Project, instance: Instance) -> None:
    from engine.errors import EngineError

    if project.instance_key() != instance.plan_key:
        raise EngineError(
            f"{instance.name} runs, and {project.loaded.path.name} or what it is built from has changed since",
            hint="`sandbox up --recreate` replaces it; `sandbox plan` shows what would be built",
        )


def _approve(loaded: Loaded, yes: bool) -> None:
    """Ask about what reaches beyond the project. Raises EngineError where nobody can answer."""
    from engine.errors import EngineError

    outside = [mount for mount in loaded.sandbox.mounts if not _inside(loaded, mount.source)]
    if yes or not outside:
        return
    click.echo("This file asks for directories outside its project:", err=True)
    for mount in outside:
        real = (loaded.project / Path(mount.source).expanduser()).resolve()
        click.echo(f"  {real} -> {mount.target} ({mount.mode})", err=True)
    if not sys.stdin.isatty():
        raise EngineError("nobody is here to approve that", hint="`--yes` approves", exit_code=2)
    click.confirm("Allow?", abort=True, err=True)


def _inside(loaded: Loaded, source: str) -> bool:
    return (loaded.project / Path(source).expanduser()).resolve().is_relative_to(loaded.project.resolve())


def _bring_up(project: Project, name: str, progress: str, shell_on_failure: bool) -> Instance:
    from engine.preflight import check_host
    from engine.report import make_reporter
    from engine.up import build, start

    check_host(project.loaded)
    if shell_on_failure:
        # A live display and a shell cannot share a terminal.
        progress = "plain" if progress == "auto" else progress
        project.session.on_failure = _open_shell
    plan = project.plan()
    if plan.to_build and progress != "quiet":
        click.echo(plan.render(), nl=False, err=True)

    async def run() -> Instance:
        with make_reporter(sys.stderr, progress) as reporter:  # type: ignore[arg-type]
            built = await build(project, reporter)
            reporter.node_started(name, f"sandbox {name}")
            began = time.monotonic()
            try:
                started = await start(project, built, name, lambda text: reporter.node_line(name, text))
            except Exception as error:
                reporter.node_failed(name, str(error), time.monotonic() - began)
                raise
            reporter.node_finished(name, time.monotonic() - began)
            return started.instance

    return asyncio.run(run())


async def _open_shell(guest: Guest, error: EngineError) -> None:
    from vmm.channel.client import attach

    click.echo(f"{error.brief}\n{error.details or ''}\na shell in the guest as it was then; `exit` ends it", err=True)
    terminal = sys.stdin.isatty()
    await attach(guest.channel, ["bash"], tty=terminal, interactive=True, user="root", cwd="/", env={})


def _show(instance: Instance, seconds: float, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        click.echo(json.dumps({**asdict(instance), "seconds": round(seconds, 3)}, indent=2))
        return
    rows = [
        ("workspace", ", ".join(_mount(mount) for mount in instance.mounts) or "none: nothing of this host is shared")
    ]
    for service, state in instance.services.items():
        rows.append(("service", f"{service}: {state['health'] or state['state']}"))
    for port in instance.ports:
        rows.append(("port", f"127.0.0.1:{port['host']} -> {port['guest']} in the guest"))
    if agent := instance.summary.get("agent"):
        rows.append(("agent", " ".join(agent)))
    rows.append(("get in", "sandbox exec -it -- bash"))
    rows.append(("end it", "sandbox down"))
    click.echo(f"{instance.name} is up after {seconds:.1f} s")
    for title, text in rows:
        click.echo(f"  {title:<10} {text}")


def _mount(mount: dict[str, object]) -> str:
    return f"{mount['source']} -> {mount['target']}{' (read-only)' if mount['read_only'] else ''}"


def _run_agent(layout: Layout, instance: Instance) -> int:
    from engine.cli.exec_command import _attach

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    summary = instance.summary
    return asyncio.run(
        _attach(
            layout.instance(instance.name).sockets.control,
            list(summary["agent"]),
            tty=terminal,
            interactive=True,
            user=summary["agent_user"],
            cwd=summary["working_directory"],
            env=summary["agent_env"],
        )
    )
