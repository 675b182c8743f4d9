#!/usr/bin/env bash
# Checks what a task needs and installs only what is missing.
#
#   scripts/setup.sh build    compiler and linker for the binary
#   scripts/setup.sh wasm     the above, and what builds rank_filter.wasm
#   scripts/setup.sh test     all of it, and the Python and Node clients that the end-to-end tests use
#   scripts/setup.sh fuzz     compiler, and a C++ compiler for libFuzzer
#   scripts/setup.sh lint     compiler, rustfmt, clippy
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_compiler() {
    if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH="$HOME/.cargo/bin:$PATH"; fi
    have cargo || die "Rust is not installed: install rustup (Debian package rustup, or rustup.rs), then run this again"
    have cc || apt_install gcc libc6-dev
    local want got
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    got=$(cargo --version | sed 's/^cargo \([0-9]*\.[0-9]*\).*/\1/')
    if [ "$(printf '%s\n%s\n' "$want" "$got" | sort -V | head -1)" != "$want" ]; then
        die "Rust $want or newer is needed, this is $got: run 'rustup update stable'"
    fi
}

# The filter is built for wasm32-wasip1. rustup's target is the short way; where that can't be had, Debian's
# compiler for the web packages has what is needed, and both can stand on one machine. binaryen makes the module smaller.
need_wasm() {
    have wasm-opt || apt_install binaryen
    if rustc --print target-libdir --target wasm32-wasip1 2>/dev/null | xargs -r ls >/dev/null 2>&1; then return; fi
    if have rustup && timeout 120 rustup target add wasm32-wasip1 >/dev/null 2>&1; then
        note "added rustup's target wasm32-wasip1"
        return
    fi
    local missing=() package
    for package in rustc-web cargo-web rust-web-src lld-19 wasi-libc; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

# libFuzzer is C++.
need_fuzz() {
    have c++ || apt_install g++
}

need_lint() {
    local component missing=()
    for component in rustfmt clippy; do
        cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || missing+=("$component")
    done
    [ ${#missing[@]} -eq 0 ] && return
    have rustup || die "missing: ${missing[*]}; install them with the compiler's own package manager"
    say "adding to the Rust toolchain: ${missing[*]}"
    rustup component add "${missing[@]}"
}

need_python() {
    have python3 || apt_install python3 python3-venv
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed, this is $(python3 --version)"
    local wanted
    wanted=$(cksum tests/requirements.txt)
    if [ -x .venv/bin/python ] && [ "$(cat .venv/.requirements 2>/dev/null)" = "$wanted" ]; then return; fi
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    say "setting up .venv with the clients that the tests use (a minute the first time)"
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt ||
        die "pip could not install tests/requirements.txt; the lines above say why"
    printf '%s\n' "$wanted" > .venv/.requirements
}

# Three Node clients are tested; without Node those tests say so and are skipped.
need_node() {
    if ! have npm; then
        note "npm not found: the tests of Node clients will be skipped (apt-get install nodejs npm, Node 20 or newer)"
        return
    fi
    local folder=tests/clients/node wanted
    wanted=$(cksum "$folder/package-lock.json")
    [ "$(cat "$folder/node_modules/.lockfile" 2>/dev/null)" = "$wanted" ] && return
    say "installing the Node clients that the tests use"
    (cd "$folder" && npm ci --silent --no-audit --no-fund) || die "npm ci failed in $folder; the lines above say why"
    printf '%s\n' "$wanted" > "$folder/node_modules/.lockfile"
}

case "${1:-}" in
    build) need_compiler ;;
    wasm)  need_compiler; need_wasm ;;
    lint)  need_compiler; need_lint ;;
    fuzz)  need_compiler; need_fuzz ;;
    test)  need_compiler; need_fuzz; need_wasm; need_python; need_node ;;
    *) die "usage: scripts/setup.sh build|wasm|fuzz|test|lint" ;;
esac
