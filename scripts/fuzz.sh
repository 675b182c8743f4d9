#!/usr/bin/env bash
# Fuzzes what reads other people's bytes: queries, pushes, segments, records of the filter. fuzz/targets/ says what must hold.
#
#   scripts/fuzz.sh                        each target for a fixed number of inputs, the same ones every time: for CI
#   scripts/fuzz.sh SECONDS [TARGET…]      each target (or these) that long, with new inputs, on top of what earlier runs found
#
# An input that breaks something is written to target/fuzz/found/TARGET; run it again with target/fuzz/build/release/fuzz_TARGET FILE.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
scripts/setup.sh fuzz

seconds=${1:-}
[ $# -eq 0 ] || shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs -a fuzz/targets/*.rs)

# In a folder of its own: what is built here is instrumented, and the product could not be linked with it.
say "building the fuzz targets"
selected=()
for target in "${targets[@]}"; do selected+=(--bin "fuzz_$target"); done
RUSTC_WRAPPER=$PWD/fuzz/rustc.sh CARGO_TARGET_DIR=$PWD/target/fuzz/build CARGO_INCREMENTAL=0 \
    cargo build --release --manifest-path fuzz/Cargo.toml "${selected[@]}"

run() {
    local target=$1 found=target/fuzz/found/$1 corpus=target/fuzz/corpus/$1 log=target/fuzz/$1.log
    mkdir -p "$found" "$corpus"
    local options=(-artifact_prefix="$found/" -timeout=20 -rss_limit_mb=2048 -max_len=2000 -verbosity=1)
    [ ! -f "fuzz/dictionaries/$target.txt" ] || options+=(-dict="fuzz/dictionaries/$target.txt")
    if [ -n "$seconds" ]; then
        options+=(-max_total_time="$seconds" "$corpus")
    else
        # What is new goes to the first folder: never to the seeds.
        corpus=target/fuzz/again/$target
        rm -rf "$corpus"
        mkdir -p "$corpus"
        options+=(-seed=1 -runs=5000 -max_total_time=60 "$corpus")
    fi
    [ ! -d "fuzz/seeds/$target" ] || options+=("fuzz/seeds/$target")
    if ! "target/fuzz/build/release/fuzz_$target" "${options[@]}" >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        die "fuzz target $target failed: the input is in $found, all output in $log"
    fi
    note "$target: $(grep -o 'Done [0-9]* runs in [0-9]* second(s)' "$log" || tail -n 1 "$log")"
}

say "fuzzing"
for target in "${targets[@]}"; do run "$target"; done
