"""How sshd is started in the guest: for one connection, on the pipes of one command, as the user who logs in.

It is no root's: sshd of an ordinary user lets in that user alone, and can become nobody else. The guest's own
configuration and keys of sshd are not read.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

# A session starts where `sandbox exec` does, with what it has in its environment: both are the command's own here.
# sshd names sftp by its own word, and the program in its place starts in the same directory.
_SESSION = (
    "asked=$SSH_ORIGINAL_COMMAND; unset SSH_ORIGINAL_COMMAND; cd -- {directory} 2>/dev/null; case $asked in "
    '"") exec "$SHELL" -l;; internal-sftp) exec /usr/lib/openssh/sftp-server;; *) exec "$SHELL" -c "$asked";; esac'
)

_CONFIGURATION = """\
AllowUsers {user}
PermitRootLogin {root}
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitEmptyPasswords no
PermitUserEnvironment no
PermitUserRC no
AllowAgentForwarding no
AllowTcpForwarding local
AllowStreamLocalForwarding local
PermitListen none
GatewayPorts no
X11Forwarding no
PermitTunnel no
PrintMotd no
PrintLastLog no
PidFile none
LogLevel ERROR
MaxAuthTries 2
LoginGraceTime 60
Subsystem sftp internal-sftp
ForceCommand {session}
"""

# SetEnv takes words in double quotes, in which a backslash escapes. All connections of a user write the same files.
# They stay, which tells the guest nothing: the key that it shows is its own.
_START = r"""
umask 077
if ! sshd=$(command -v sshd); then
    echo "sandbox: this machine was made without sshd: \`sandbox up --recreate\` makes it anew" >&2
    exit 127
fi
directory=${TMPDIR:-/tmp}/.sandbox-ssh-$(id -u)
mkdir -p "$directory" && cd "$directory" || exit 1
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
put() { cat > "$1.$$" && mv "$1.$$" "$1"; }
printf '%s' "$SANDBOX_SSH_HOST_KEY" | put host_key
printf '%s\n' "$SANDBOX_SSH_CLIENT_KEY" | put client_key
words=$SANDBOX_SSH_CONFIGURATION
unset SANDBOX_SSH_HOST_KEY SANDBOX_SSH_CLIENT_KEY SANDBOX_SSH_CONFIGURATION PWD OLDPWD SHLVL _
{
    printf '%sHostKey %s/host_key\nAuthorizedKeysFile %s/client_key\nSetEnv' "$words" "$directory" "$directory"
    env | sed -n '/^\(PWD\|OLDPWD\|SHLVL\|_\)=/d; /^[A-Za-z_][A-Za-z0-9_]*=/!d; s/[\\"]/\\&/g; s/.*/ "&"/p' | tr -d '\n'
    echo
} | put configuration
exec "$sshd" -i -e -f "$directory/configuration"
"""
COMMAND = ("/bin/sh", "-c", _START)


def configuration(user: str, directory: str) -> str:
    """What sshd is told, for sessions of `user` that start in `directory` of the guest."""
    session = _SESSION.format(directory=shlex.quote(directory))
    return _CONFIGURATION.format(user=user, root="prohibit-password" if user == "root" else "no", session=session)


def variables(user: str, directory: str, *, host_key: str, client_key: str) -> Mapping[str, str]:
    """The environment of COMMAND: the private key that the guest shows, and the public one that it lets in."""
    return {
        "SANDBOX_SSH_HOST_KEY": host_key,
        "SANDBOX_SSH_CLIENT_KEY": client_key,
        "SANDBOX_SSH_CONFIGURATION": configuration(user, directory),
    }
