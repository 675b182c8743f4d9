#!/bin/sh
# Cargo's wrapper around the compiler: what is tested gets libFuzzer's coverage counters, its dependencies stay as every build has
# them, so that they need not be built again. These are options of the stable compiler; no sanitizer, which needs another one.
compiler=$1
shift
case " $* " in
*" --crate-name rankline "* | *" --crate-name rankline_logql "* | *" --crate-name rankline_segment "* | \
    *" --crate-name rank_filter "* | *" --crate-name fuzz_"*)
    exec "$compiler" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$compiler" "$@"
