#!/usr/bin/env bash
# Everything that is checked without running the product. Stops at the first thing that is wrong.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
scripts/setup.sh lint

say "formatting"
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check

say "clippy, warnings are errors"
cargo clippy --workspace --all-targets --locked -- -D warnings

say "documentation, warnings are errors"
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet

say "licences, sources and advisories of the dependencies"
if have cargo-deny; then
    cargo deny --log-level error check licenses bans sources
    # Advisories come from a database that has to be fetched; a machine without it says so and goes on.
    cargo deny --log-level error check advisories || note "advisories were not checked, or one was found: see above"
else
    note "skipped: cargo-deny is not on PATH (cargo install --locked cargo-deny)"
fi

say "scripts"
for script in scripts/*.sh .ci/run; do bash -n "$script"; done
if have shellcheck; then shellcheck -x scripts/*.sh .ci/run
else note "shellcheck skipped: not on PATH"; fi
python3 - <<'PY'
import ast, pathlib
for path in [*pathlib.Path("tests").glob("*.py"), *pathlib.Path("scripts").glob("*.py")]:
    ast.parse(path.read_text(), str(path))
PY
say "lint is clean"
