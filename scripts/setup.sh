#!/usr/bin/env bash
# Installs what edgeq needs and is not there yet: Debian or Ubuntu packages, and a Python environment in .venv.
# Run it as often as you like: it looks first, changes nothing that is in place, and goes on where it was interrupted.
#
#   scripts/setup.sh            what building, the emulated boards and the examples need
#   scripts/setup.sh --tests    the same, and what the tests need
#   scripts/setup.sh --check    say what is missing and change nothing; exit status 1 if something is
#
# EDGEQ_PYTHON       the Python to use (3.11 or newer, as ONNX Runtime needs); else the first that fits
# EDGEQ_TORCH_INDEX  one more package index for torch. PyPI's torch for x86-64 brings several gigabytes of CUDA with
#                    it; name PyTorch's own index of CPU builds here, and its smaller build is taken.
# PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and pip's other settings are pip's own and are honoured.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV="$PWD/.venv"
STAMP="$VENV/edgeq-setup"   # written last; its content is a hash of all that the environment was made from

# Debian package, and who needs it.
PACKAGES="
make                    the commands in the Makefile
qemu-system-arm         the emulated boards
zstd                    unpacking the boards' Debian packages
debian-archive-keyring  checking the signatures of those packages
openssh-client          edgeq board ssh
cmake                   building the runner
g++                     building the runner for this machine
g++-aarch64-linux-gnu   building the runner for the boards
g++-arm-linux-gnueabihf  building the runner for boards of 32 bits
dataset-fashion-mnist   examples/fashion_mnist
"
TEST_PACKAGES="
mmdebstrap              the chroots that run the steps of docker/Dockerfile
openssh-server          the tests' own SSH server
postgresql              the tests' own database server
default-jre-headless    compiling and running exported Kotlin
junit4                  running the tests of exported Kotlin
"

say() { printf '%s\n' "$*" >&2; }
die() {
    say "set-up: $1"
    shift
    [ $# = 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

# Prints those of the packages on stdin ("NAME  who needs it", one a line) that are not installed.
missing_packages() {
    local wanted installed name why
    wanted=$(cat)
    command -v dpkg-query >/dev/null ||
        die "this is no Debian or Ubuntu; install these yourself, by the names your system has for them:" "$wanted"
    # A name that dpkg has never heard of is an error for dpkg-query and an answer for us.
    # shellcheck disable=SC2046  # one word a package
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $(awk 'NF {print $1}' <<<"$wanted") 2>/dev/null) || true
    while read -r name why; do
        [ -z "$name" ] || grep -qxF "installed $name" <<<"$installed" || printf '%s\t%s\n' "$name" "$why"
    done <<<"$wanted"
}

# Prints npm's line if no npm is there: one that came with another Node.js than Debian's would be removed for Debian's.
npm_package() {
    command -v npm >/dev/null || printf '%s\t%s\n' npm "fetching the Kotlin compiler"
}

# Prints the first Python that is new enough.
find_python() {
    local candidate
    for candidate in ${EDGEQ_PYTHON:-python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Prints the packages that Python itself lacks: Debian splits the part that makes virtual environments off.
missing_python_packages() {
    local python
    if ! python=$(find_python); then
        [ -n "${EDGEQ_PYTHON:-}" ] && die "EDGEQ_PYTHON is $EDGEQ_PYTHON, which is no Python 3.11 or newer"
        [ -e /usr/bin/python3 ] && die "no Python 3.11 or newer was found, only $(/usr/bin/python3 --version)" \
            "install one, or set EDGEQ_PYTHON to where it is"
        printf '%s\t%s\n' python3 "edgeq" python3-venv "the environment in .venv"
    elif ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        [[ $(readlink -f "$python") == /usr/bin/* ]] ||
            die "$python lacks the modules venv and ensurepip" "mend it, or set EDGEQ_PYTHON to another Python"
        printf '%s\t%s\n' "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" \
            "the environment in .venv"
    fi
}

# What the environment depends on, as one hash.
environment_key() {
    {
        printf '%s\n' "$PWD"
        cat pyproject.toml constraints.txt examples/requirements.txt scripts/ethos-u.txt
        "$VENV/bin/python" -VV
    } 2>/dev/null | sha256sum
}

environment_is_current() {
    [ -x "$VENV/bin/edgeq" ] && [ -f "$STAMP" ] && [ "$(environment_key)" = "$(cat "$STAMP")" ]
}

# What runs as root may leave a service behind, which must not keep this script's lock.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@" 9<&-; else sudo "$@" 9<&-; fi
}

may_become_root() {
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || return
    sudo -n true 2>/dev/null && return
    [ -t 0 ] && [ -t 2 ]    # sudo can ask
}

# $1: lines "NAME<tab>who needs it".
install_packages() {
    local names install
    names=$(cut -f 1 <<<"$1" | tr '\n' ' ')
    say "set-up: these packages are missing:"
    printf '%s\n' "$1" | awk -F '\t' '{printf "  %-24s for %s\n", $1, $2}' >&2
    may_become_root || die "installing them takes root, and sudo is not there or cannot ask here; run this, then try again:" \
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends ${names% }"
    [ "$(id -u)" = 0 ] || say "set-up: installing them with sudo apt-get; sudo may ask for your password"
    install="env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $names"
    # Package lists that are empty or old know too little: fetch them then, and only then.
    # shellcheck disable=SC2086  # one word an argument
    if ! apt-cache show --no-all-versions $names >/dev/null 2>&1 || ! as_root $install >&2; then
        as_root apt-get update >&2 || die "apt-get update failed; its message above says why"
        as_root $install >&2 || die "apt-get could not install: $names" "its message above says why"
    fi
    case " $names" in *" openssh-server "*) switch_off SSH openssh-server ssh.service ssh.socket ;; esac
    case " $names" in *" postgresql "*) switch_off PostgreSQL postgresql postgresql.service ;; esac
}

# The tests start servers of their own; a machine that had none should not begin to listen because of them.
# $1: what it serves, $2: the package, then the units.
switch_off() {
    [ -d /run/systemd/system ] || return 0
    say "set-up: switching the $1 service off again that $2 brought: only its program is needed"
    as_root systemctl disable --now "${@:3}" >&2 ||
        say "set-up: that failed; do it yourself: sudo systemctl disable --now ${*:3}"
}

make_environment() {
    local python key
    python=$(find_python) || die "no Python 3.11 or newer was found"
    rm -f "$STAMP"
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || ! grep -qsF "#!$VENV/" "$VENV/bin/pip"; then
        say "set-up: making the Python environment .venv with $("$python" --version) ($python)"
        "$python" -m venv --clear "$VENV" || die "$python cannot make a virtual environment; its message above says why"
    fi
    # Alone and with its exact pin: left to the other requirements, pip may choose another build of it.
    say "set-up: installing torch (1 of 3)${EDGEQ_TORCH_INDEX:+ with EDGEQ_TORCH_INDEX}"
    [ -n "${EDGEQ_TORCH_INDEX:-}" ] ||
        say "  PyPI's own is the CUDA build of several gigabytes; EDGEQ_TORCH_INDEX can name an index of CPU builds"
    pip install "$(grep '^torch==' constraints.txt)" -c constraints.txt \
        ${EDGEQ_TORCH_INDEX:+--extra-index-url "$EDGEQ_TORCH_INDEX"}
    say "set-up: installing edgeq and what it needs (2 of 3)"
    pip install -e '.[dev]' -c constraints.txt
    say "set-up: installing what the examples and the compiler for Ethos-U need (3 of 3)"
    pip install --no-deps -r examples/requirements.txt -r scripts/ethos-u.txt
    key=$(environment_key)
    printf '%s\n' "$key" >"$STAMP.new"
    mv "$STAMP.new" "$STAMP"
}

pip() {
    "$VENV/bin/python" -m pip --disable-pip-version-check "$@" >&2 ||
        die "pip failed; its message above says why" "what is installed stays; run the same command again to go on"
}

main() {
    local check=false wanted=$PACKAGES argument missing
    for argument in "$@"; do
        case $argument in
            --tests) wanted+=$TEST_PACKAGES$(npm_package) ;;
            --check) check=true ;;
            *) die "unknown argument $argument; there are --tests and --check" ;;
        esac
    done
    missing=$(missing_packages <<<"$wanted")
    environment_is_current || missing+=$'\n'$(missing_python_packages)
    missing=$(sed '/^$/d' <<<"$missing")
    if $check; then
        [ -z "$missing" ] || awk -F '\t' '{printf "package %-24s for %s\n", $1, $2}' <<<"$missing"
        environment_is_current || say "the Python environment .venv is missing or out of date"
        [ -z "$missing" ] && environment_is_current
        return
    fi
    # One set-up at a time in a checkout; the lock is on this very file.
    exec 9<"scripts/setup.sh"
    flock -n 9 || { say "set-up: another one is running here; waiting for it"; flock 9; }
    [ -z "$missing" ] || install_packages "$missing"
    environment_is_current || make_environment
}

main "$@"
