#!/bin/sh
# Makes .local/venv and installs what the given requirements file pins, unless that has been done already.
set -eu
requirements=$1
cd "$(dirname "$0")/.."
if ! mkdir -p -m 700 .local 2>/dev/null || [ ! -w .local ]; then
    echo "$PWD/.local cannot be written by $(id -un): give it to that user (chown -R), or use a clone of your own." >&2
    exit 1
fi
venv=.local/venv
stamp=$venv/.installed-$(basename "$requirements")
if [ -f "$stamp" ] && cmp -s "$requirements" "$stamp"; then
    exit 0
fi
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or later is needed; python3 is $(python3 --version)." >&2
    exit 1
fi
make_venv() {
    python3 -m venv "$venv" >.local/venv.log 2>&1
}
if [ ! -x "$venv/bin/pip" ] && ! make_venv; then
    if python3 -c 'import ensurepip' 2>/dev/null; then
        echo "$PWD/$venv cannot be made: $(tail -n 1 .local/venv.log)" >&2
        exit 1
    fi
    # Debian ships what it needs in a package of its own.
    if [ "$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo="sudo -n"; else
        echo "The package python3-venv is missing. Install it (apt-get install python3-venv)." >&2
        exit 1
    fi
    if ! { $sudo apt-get update -q && $sudo apt-get install -y -q --no-install-recommends python3-venv; } \
        >.local/venv.log 2>&1 || ! make_venv; then
        echo "$PWD/$venv cannot be made: $(tail -n 1 .local/venv.log)" >&2
        exit 1
    fi
fi
echo "Installing the Python packages of $requirements into $venv ..."
# The file is complete, so nothing is left to resolve. The pip of Debian 12 would reach past a pin for the newest release
# of a package that another one wants with an extra (https://github.com/pypa/pip/issues/12345).
"$venv/bin/pip" install -qq --disable-pip-version-check --require-hashes --no-deps -r "$requirements"
cp "$requirements" "$stamp"
