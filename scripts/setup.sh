#!/bin/sh
# Make the virtual environment .venv with everything that Slipway's tests, linters, playbooks and lab run with.
# From a bare Debian or Ubuntu with git, make and Python 3.11 or newer; instant when nothing has changed.
# `scripts/setup.sh deploy` installs only what the workflows deploy and watch with, `scripts/setup.sh site` what they run
# site.yml with; SLIPWAY_VENV puts it elsewhere.
set -eu

cd "$(dirname "$0")/.."
uv_lock=requirements/uv.txt
lock=requirements/${1:-dev}.txt
venv=${SLIPWAY_VENV:-.venv}
stamp=$venv/.installed

say() {
    printf 'setup: %s\n' "$*" >&2
}

fail() {
    say "error: $*"
    exit 1
}

is_current() {
    [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && cat "$uv_lock" "$lock" | cmp -s - "$stamp"
}

# Prints a command that runs another one as root; nothing when this is root already. Fails where neither is possible.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        return 0
    fi
    command -v sudo >/dev/null && sudo -n true 2>/dev/null && echo sudo
}

apt_install() {
    if ! command -v apt-get >/dev/null || ! prefix=$(as_root); then
        fail "$1 missing: install it (on Debian or Ubuntu: sudo apt-get install $1), then run this again"
    fi
    say "installing $1 …"
    # The lists may be absent on a fresh machine, or locked by another apt-get; the installation itself tells.
    # shellcheck disable=SC2086 # an empty prefix must vanish
    $prefix apt-get -qq update || say "apt-get update failed; trying with the package lists that are there"
    # shellcheck disable=SC2086 # as above
    $prefix env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=180 install --no-install-recommends \
        --yes "$1" >/dev/null || fail "apt-get install $1 failed, see above"
}

# Sets python to the first interpreter that is new enough.
choose_python() {
    for python in python3 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return
        fi
    done
    fail "Python 3.11 or newer is missing: install it as python3, python3.13, python3.12 or python3.11"
}

make_environment() {
    choose_python
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        apt_install "$("$python" -c 'import sys; print(f"python3.{sys.version_info[1]}-venv")')"
    fi
    say "making $venv with $("$python" --version) …"
    # A copy of pip would take seconds, so the interpreter's own is used where it has one.
    if "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear --without-pip "$venv"
    else
        "$python" -m venv --clear "$venv"
    fi
}

# Runs pip for the environment.
environment_pip() {
    if "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        "$venv/bin/python" -m pip "$@"
    else
        choose_python
        "$python" -m pip --python "$venv/bin/python" "$@"
    fi
}

[ -f "$lock" ] || fail "there is no $lock; say nothing, or: scripts/setup.sh deploy, scripts/setup.sh site"
is_current && exit 0

# Two of these at once would spoil each other's work.
exec 9<"$lock"
if command -v flock >/dev/null; then
    flock 9
    is_current && exit 0
fi

command -v ssh >/dev/null || apt_install openssh-client
command -v openssl >/dev/null || apt_install openssl
"$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || make_environment

say "installing uv …"
environment_pip install --quiet --disable-pip-version-check --require-hashes --requirement "$uv_lock"
say "installing what $lock names …"
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes "$lock"
if [ $# = 0 ]; then
    say "compiling …"
    # Where Python may not write bytecode, every start would compile again; the collections hold little that is used.
    "$venv/bin/python" -m compileall -q -j 0 -x ansible_collections "$venv/lib" >/dev/null || true
fi
cat "$uv_lock" "$lock" >"$stamp"
say "done: $venv is ready"
