#!/usr/bin/env bash
# Builds the guests of the benchmarks from source into target/bench-guests/NAME.wasm, and the compute kernels natively.
#
#   bench/guests/build.sh                 all of them
#   bench/guests/build.sh --no-install    build with what is there; name what is missing and exit 3
#
# Quiet when everything is up to date. The compilers are those of examples/build.sh, which installs what is missing and
# says so: clang-19 and wasi-libc, rustc with the target wasm32-wasip1, Go.
# Exit: 0 done, 1 failed, 2 used wrongly, 3 something is missing that it may not or cannot install.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/target/bench-guests
tools=$root/target/guest-tools
guest=$root/target/wasm-guest
install=()

say() { echo "guests: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

while [ $# -gt 0 ]; do
  case $1 in
    --no-install) install=(--no-install) ;;
    -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//;/^set /!p}' "$0"; exit 0 ;;
    *) die 2 "unknown option '$1'; see --help" ;;
  esac
  shift
done

# Called by `cargo run`, which tells its children about the host's build.
unset RUSTFLAGS RUSTC RUSTC_WRAPPER RUSTDOCFLAGS CARGO CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR \
  CARGO_BUILD_RUSTC CARGO_INCREMENTAL LD_LIBRARY_PATH RUSTUP_TOOLCHAIN GOFLAGS GOOS GOARCH
export LC_ALL=C.UTF-8

mkdir -p "$out/.stamps"
exec 9>"$out/.lock"
flock -n 9 || { say "waiting for another build of the guests"; flock 9; }
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

c_compiler() {
  if [ -n "${WASI_SDK_PATH:-}" ]; then echo "$WASI_SDK_PATH/bin/clang" --target=wasm32-wasip1; else echo clang-19 --target=wasm32-wasi; fi
}
# The native floor is compiled by the same compiler.
native_compiler() {
  if [ -n "${WASI_SDK_PATH:-}" ]; then echo cc; else echo clang-19; fi
}
warnings=(-std=c17 -O2 -s -Wall -Wextra -Werror)

c() { $(c_compiler) "${warnings[@]}" ${3:-} -o "$2" "$here/c/$1.c"; }
c_reactor() { $(c_compiler) "${warnings[@]}" -mexec-model=reactor -DREACTOR -o "$2" "$here/c/$1.c"; }
native() { $(native_compiler) -D_POSIX_C_SOURCE=199309L "${warnings[@]}" -o "$2" "$here/c/$1.c"; }

rust() {
  local cargo=(cargo) sysroot
  sysroot=$(rustc --print sysroot 2>/dev/null || true)
  [ -n "$sysroot" ] && [ -d "$sysroot/lib/rustlib/wasm32-wasip1/lib" ] || cargo=(env RUSTC="$guest/bin/rustc" /usr/bin/cargo)
  "${cargo[@]}" build --quiet --release --locked --target wasm32-wasip1 --manifest-path "$here/$1/Cargo.toml" \
    --target-dir "$tools/rust-target"
  local crate
  crate=$(sed -n 's/^name = "\(.*\)"/\1/p' "$here/$1/Cargo.toml" | head -1)
  cp "$tools/rust-target/wasm32-wasip1/release/$crate.wasm" "$2"
}

go_reactor() {
  local go=go
  command -v go >/dev/null || { go=$tools/go/go/bin/go; export GOROOT=$tools/go/go; }
  (cd "$here/$1" && CGO_ENABLED=0 GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local GOFLAGS=-mod=mod GOPATH=$tools/go-path \
    GOCACHE=$tools/go-cache "$go" build -buildmode=c-shared -trimpath -buildvcs=false -ldflags='-s -w' -o "$2" .)
}

# NAME, and what builds it: a function above, what it is given, and one more option of the compiler. A name without a dot
# is a native program.
guests="
json-command.wasm     c json
json-c.wasm           c_reactor json
echo-command.wasm     c echo
echo-reactor.wasm     c_reactor echo
echo-extism.wasm      c_reactor extism_echo
compute.wasm          c compute -msimd128
compute               native compute
json-rust.wasm        rust rust
json-template.wasm    rust template
json-go.wasm          go_reactor go
"

# The digest of everything a build depends on: its sources and this recipe.
stamp_of() {
  { cat "$here/build.sh"
    case $1 in
      c | c_reactor | native) cat "$here/c/$2.c" ;;
      *) find "$here/$2" -type f -not -path '*/target/*' | LC_ALL=C sort | xargs cat ;;
    esac
  } | sha256sum | cut -d' ' -f1
}

stale=()
while read -r name recipe argument option; do
  [ -n "$name" ] || continue
  [ -f "$out/$name" ] && [ "$(cat "$out/.stamps/$name" 2>/dev/null)" = "$(stamp_of "$recipe" "$argument")" ] || stale+=("$name $recipe $argument $option")
done <<<"$guests"
[ ${#stale[@]} -gt 0 ] || exit 0

# One example of each language: what its build needs is installed, announced and pinned there.
bash "$root/examples/build.sh" "${install[@]}" --only echo wordcount csv-to-json
for entry in "${stale[@]}"; do
  read -r name recipe argument option <<<"$entry"
  "$recipe" "$argument" "$work/$name" "$option" >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; die 1 "'$name' did not build"; }
  mv "$work/$name" "$out/$name"
  stamp_of "$recipe" "$argument" >"$out/.stamps/$name"
  say "built target/bench-guests/$name ($(stat -c %s "$out/$name") bytes)"
done
