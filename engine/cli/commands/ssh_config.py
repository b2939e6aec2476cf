"""`sandbox ssh-config`."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.options import name_argument


@click.command(
    "ssh-config",
    epilog="""\b
Examples:
  sandbox ssh-config --write             once and for good; then: ssh shop.sandbox
  sandbox ssh-config shop > shop.conf    then: ssh -F shop.conf shop.sandbox
  scp shop.sandbox:result.csv .
  ssh -L 8080:localhost:3000 shop.sandbox
""",
)
@name_argument
@click.option("--write", is_flag=True, help="Include the aliases in ~/.ssh/config, once and for good.")
@click.option("--remove", is_flag=True, help="Take that out of ~/.ssh/config again.")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file that --write and --remove change; default: ~/.ssh/config.",
)
@click.option("-u", "--user", metavar="USER", help="User in the guest; default: agent.")
def command(name: str | None, write: bool, remove: bool, file: Path | None, user: str | None) -> None:
    """Print what ssh, and editors that use it, need to reach a sandbox as NAME.sandbox.

    Without NAME it prints the aliases of all sandboxes that run. ssh talks to the guest through the sandbox's own
    channel: no port is opened, on the host or in the guest. An sshd is started for each connection, which lets in that
    user alone. It refuses agent, X11 and remote forwarding.
    """
    from engine.lifecycle.selection import open_layout
    from engine.lifecycle.ssh import USER, aliases, install_aliases, remove_aliases

    if write and remove:
        raise click.UsageError("--write and --remove exclude each other.")
    if (write or remove) and (name or user):
        raise click.UsageError("--write and --remove are for all sandboxes, and for the user `agent`.")
    if file is not None and not (write or remove):
        raise click.UsageError("--file belongs to --write or --remove.")
    layout = open_layout()
    if not (write or remove):
        click.echo(aliases(layout, name, user or USER), nl=False)
        return
    file = file or Path("~/.ssh/config").expanduser()
    changed = (install_aliases if write else remove_aliases)(layout, file)
    done = "includes the aliases now" if write else "does not include the aliases any more"
    click.echo(f"{file} {done}" if changed else f"{file} is as it was", err=True)
