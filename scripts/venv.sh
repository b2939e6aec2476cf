#!/bin/sh
# Make the virtual environment in $1 with this project in it. Needs Python 3.11 or newer and nothing else: where Debian's
# python3-venv is missing (and we may be an ordinary user), pip comes out of Debian's own python3-pip-whl package.
set -eu
venv=$1
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: Python 3.11 or newer is needed (set PYTHON to it); found: $("$python" --version 2>&1 || echo none)" >&2
    exit 1
fi
if [ ! -x "$venv/bin/pip" ]; then
    rm -rf "$venv"
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv "$venv"
    else
        echo "no ensurepip here: taking pip from Debian's python3-pip-whl"
        "$python" -m venv --without-pip "$venv"
        scratch=$(mktemp -d)
        trap 'rm -rf "$scratch"' EXIT
        chmod 755 "$scratch"
        (cd "$scratch" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download python3-pip-whl && dpkg-deb -x ./*.deb .)
        wheel=$(echo "$scratch"/usr/share/python-wheels/pip-*.whl)
        PYTHONPATH=$wheel "$venv/bin/python" -m pip install --quiet --no-index "$wheel" ||
            PYTHONPATH=$wheel "$venv/bin/python" -m pip install --quiet "pip"
    fi
fi
# A plain path, not setuptools' finder: that one imports for 15 ms in each start of Python.
"$venv/bin/pip" install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[dev]'
# pip compiles what it installs, but not what it only points to; where PYTHONDONTWRITEBYTECODE is set, nobody would ever,
# and each start of `sandbox` would take twice as long.
"$venv/bin/python" -m compileall -q sandboxfile vmm engine
scripts/openssh.sh "$venv/openssh" || echo "note: OpenSSH cannot be fetched here; the tests that need it are skipped" >&2
touch "$venv/ready"
