"""`sandbox ssh-proxy`, which ssh runs: `sandbox ssh-config` writes it down."""

from __future__ import annotations

import click


@click.command("ssh-proxy")
@click.option("--user", metavar="USER", default="agent", show_default=True, help="User in the guest.")
@click.argument("name", required=False)
def command(name: str | None, user: str) -> int:
    """Join ssh to an sshd that is started in the sandbox for this connection alone."""
    from engine.cli.attached import run_attached
    from engine.lifecycle.selection import open_layout
    from engine.lifecycle.ssh import server_of

    server = server_of(open_layout(), name, user)
    return run_attached(
        server.control,
        server.argv,
        user=server.user,
        cwd=server.directory,
        env=server.environment,
        interactive=True,
        forward=False,  # ssh ends it with a signal, which is meant for us
    )
