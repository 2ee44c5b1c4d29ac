#!/usr/bin/env bash
# Installs Debian packages that are missing, after saying which. Quiet, and without root, if none is.
#
#   examples/debian.sh [--for=WHAT] [--no-install] PACKAGE...
#
# SKEIN_NO_INSTALL=1 is the same as --no-install. Exit: 0 they are there, 2 used wrongly, 3 something is missing that it
# may not or cannot install.
set -euo pipefail

what="Skein's build"
may_install=yes
[ -z "${SKEIN_NO_INSTALL:-}" ] || may_install=no
wanted=()
say() { echo "debian: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }
for argument in "$@"; do
  case $argument in
    --for=*) what=${argument#--for=} ;;
    --no-install) may_install=no ;;
    -*) die 2 "unknown option '$argument'" ;;
    *) wanted+=("$argument") ;;
  esac
done

missing=()
for name in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

by_hand="apt-get update && apt-get install --no-install-recommends ${missing[*]}"
command -v apt-get >/dev/null || die 3 "missing for $what: ${missing[*]}, and this is not Debian"
[ $may_install = yes ] || die 3 "missing for $what, and not to be installed: ${missing[*]}. By hand, as root: $by_hand"
[ "$(id -u)" = 0 ] || die 3 "missing for $what, and only root may install it: ${missing[*]}. By hand: sudo sh -c '$by_hand'"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt=(apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
"${apt[@]}" update >"$log" 2>&1 || say "apt-get update failed; going on with the package lists there are"
sizes=$("${apt[@]}" install --assume-no --no-install-recommends "${missing[@]}" 2>/dev/null |
  grep -E '^(Need to get|After this)' | tr '\n' ' ') || true
say "installing from Debian for $what: ${missing[*]}. $sizes"
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1 || {
  tail -n 15 "$log" >&2
  die 3 "apt-get could not install them (no network?). By hand, as root: $by_hand"
}
