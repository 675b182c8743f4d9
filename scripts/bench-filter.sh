#!/usr/bin/env bash
# What a line costs in rank_filter.wasm, against a module that hands every record back: in wasmi, wasmtime and, where it is installed,
# the real Fluent Bit.
#
#   scripts/bench-filter.sh            the tables of costs
#   scripts/bench-filter.sh memory     the instance's memory over 50 million records (RECORDS=… for another number)
#
# The MLPerf result logs are measured too where they stand beside the repository. The first run builds wasmtime: several minutes.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
scripts/setup.sh wasm

CORPUS=../shared/corpus/mlperf/training-results-v5.1.tar.zst
WORK=target/bench-filter
mkdir -p "$WORK"
scripts/build-wasm.sh
scripts/build-wasm.sh --identity
cargo build --release --locked --manifest-path filter-wasm/bench/Cargo.toml --target-dir "$WORK"

if [ "${1:-}" = memory ]; then
    exec "$WORK/release/rankline-filter-bench" memory dist/rank_filter.wasm "${RECORDS:-50000000}"
fi

corpus=()
if [ -f "$CORPUS" ] && have zstd; then
    [ -d "$WORK/mlperf" ] || { mkdir -p "$WORK/mlperf" && zstd -dc --long=27 "$CORPUS" | tar x -C "$WORK/mlperf"; }
    corpus=("$WORK/mlperf")
else
    note "the kind mlperf is skipped: no $CORPUS, or no zstd"
fi
rm -rf "$WORK/lines"
python3 scripts/filter_lines.py "$WORK/lines" 2000 "${corpus[@]}"
"$WORK/release/rankline-filter-bench" per-line dist/rank_filter.wasm dist/identity.wasm "$WORK/lines"
echo
python3 scripts/bench-fluent-bit.py ${corpus:+--corpus "${corpus[0]}"}
