#!/usr/bin/env bash
# Builds dist/rank_filter.wasm: the filter as a wasm32-wasip1 reactor for Fluent Bit.
#
#   scripts/build-wasm.sh [--quiet] [--identity]
#
# With --identity it builds dist/identity.wasm instead, the same way: the module that benchmarks measure the filter against.
# Uses the toolchain's wasm32-wasip1 target where it is installed or rustup can add it. Otherwise Debian's packages do: their
# compiler builds the standard library from source and links it with Debian's wasi-libc. Either way binaryen's wasm-opt comes last.
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=wasm32-wasip1
PACKAGE=rankline-filter NAME=rank_filter
DEBIAN_PACKAGES=(rustc-web cargo-web rust-web-src lld-19 wasi-libc)
# _initialize makes it a reactor (with crt1-reactor.o): otherwise each call would run constructors and destructors.
EXPORTS=(-C link-arg=--export=_initialize)
# An interpreter pays for a call and for every variable of the function that is called, needed or not: small functions are worth
# inlining, larger ones are not. Unrolled loops save it next to nothing and take room in a module that must stay small.
SHAPE=(-C llvm-args=-inline-threshold=50 -C llvm-args=-unroll-threshold=20)
# Fluent Bit copies records into the module with its malloc and free. Without them it has 8 KiB for that. The filter has functions
# of its own for it, cheaper than the C library's; they get these names behind the linker, which knows the others by them.
RENAMED=(host_malloc=malloc host_free=free)
say() { [ -n "${QUIET:-}" ] || echo "build-wasm: $*"; }
for argument in "$@"; do
    case $argument in
        --quiet) QUIET=1 ;;
        --identity)
            PACKAGE=rankline-filter-identity NAME=identity RENAMED=()
            EXPORTS+=(-C link-arg=--export=malloc -C link-arg=--export=free)
            ;;
        *) echo "build-wasm: unknown argument $argument" >&2; exit 2 ;;
    esac
done
OUT=dist/$NAME.wasm

have_target() {
    local sysroot
    sysroot=$(rustc --print sysroot 2>/dev/null) && [ -d "$sysroot/lib/rustlib/$TARGET/lib" ]
}

build_with_toolchain() {
    say "building with $(rustc --version)"
    local start
    start=$(rustc --print sysroot)/lib/rustlib/$TARGET/lib/self-contained/crt1-reactor.o
    RUSTFLAGS="${EXPORTS[*]} ${SHAPE[*]} -C link-arg=$start" cargo build --quiet --locked --package "$PACKAGE" --lib --profile wasm \
        --target "$TARGET" --target-dir target/wasm
    BUILT=target/wasm/$TARGET/wasm/$NAME.wasm
}

install_debian_packages() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    if ! "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; then
        "${sudo[@]}" apt-get update -qq
        "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    fi
}

build_with_debian() {
    local cargo=/usr/share/cargo/bin/cargo libc=/usr/lib/wasm32-wasi work=target/wasm-debian
    [ -x "$cargo" ] || cargo=/usr/bin/cargo
    say "building with Debian's $(/usr/bin/rustc --version), the standard library from source"
    mkdir -p "$work"
    local flags=("${EXPORTS[@]}" "${SHAPE[@]}" -C linker=wasm-ld-19 -C link-self-contained=no -L "$libc" -C link-arg="$libc/crt1-reactor.o")
    env -u RUSTUP_TOOLCHAIN -u CARGO PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="${flags[*]}" \
        "$cargo" build --quiet --locked --package "$PACKAGE" --lib --profile wasm --target "$TARGET" \
        -Zbuild-std=std,panic_abort --target-dir "$work"
    BUILT=$work/$TARGET/wasm/$NAME.wasm
}

if have_target || { command -v rustup >/dev/null && rustup target add "$TARGET" >/dev/null 2>&1 && have_target; }; then
    build_with_toolchain
else
    say "there is no $TARGET target here, and rustup cannot add it"
    install_debian_packages "${DEBIAN_PACKAGES[@]}"
    build_with_debian
fi

mkdir -p dist
cp "$BUILT" "$OUT.tmp"
[ ${#RENAMED[@]} -eq 0 ] || python3 scripts/wasm-exports.py "$OUT.tmp" "${RENAMED[@]}"
command -v wasm-opt >/dev/null || install_debian_packages binaryen
# A twentieth smaller than what the compiler leaves, and a little faster. The features are those of the compiler's target.
FEATURES=(--enable-{bulk-memory,sign-ext,mutable-globals,nontrapping-float-to-int,multivalue,reference-types})
# A function with one caller stays one: the rare way's variables would be prepared on the common way too, and would take their part of
# Fluent Bit's operand stack at the same time.
wasm-opt "${FEATURES[@]}" -O3 --one-caller-inline-max-function-size 0 "$OUT.tmp" -o "$OUT.tmp"
python3 scripts/check-wasm.py "$OUT.tmp"
mv "$OUT.tmp" "$OUT"
say "$OUT: $(stat -c %s "$OUT") bytes"
