#!/usr/bin/env bash
# All tests: the workspace's own, then the end-to-end ones against a real server.
# Arguments go to pytest: scripts/test.sh -k s3
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
scripts/setup.sh test

say "unit and property tests"
cargo test --workspace --locked

say "building the binary and the filter for the end-to-end tests"
cargo build --release --locked --bin rankline
scripts/build-wasm.sh

say "fuzz targets, a fixed number of inputs each"
scripts/fuzz.sh

say "end-to-end tests"
.venv/bin/python -m pytest tests "$@"
