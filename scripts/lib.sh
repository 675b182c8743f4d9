# shellcheck shell=bash
# What the scripts of this folder share: saying what happens, and installing what is missing.
# Source it; it changes into the repository's top folder.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m'; dim=$'\e[2m'; red=$'\e[31m'; off=$'\e[0m'
else bold=''; dim=''; red=''; off=''; fi

# A step, as a person should see it.
say()  { printf '%s\n' "${bold}==>${off} $*"; }
# A detail of a step.
note() { printf '%s\n' "    ${dim}$*${off}"; }
# The last word before giving up: what failed and what to do.
die()  { printf '%s\n' "${red}error:${off} $*" >&2; exit 1; }

have() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages, or says which ones a person has to install.
apt_install() {
    have apt-get || die "needed and not found: $* (Debian package names); install them with your system's package manager, then run this again"
    local sudo=''
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || die "needed and not found: $*; run as root: apt-get install $*"
        sudo=sudo
    fi
    say "installing with apt: $*"
    local log; log=$(mktemp)
    if ! $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1; then
        # An old package list names versions that are gone; a fresh one is asked for only then.
        note "refreshing the package lists first"
        $sudo apt-get update -qq >"$log" 2>&1 || { cat "$log" >&2; die "apt-get update failed"; }
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 ||
            { cat "$log" >&2; die "apt-get could not install: $*"; }
    fi
    rm -f "$log"
}
