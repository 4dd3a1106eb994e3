#!/usr/bin/env bash
# Holds the guest ABI's offsets and constants that this project relies on against Xen's public headers.
#
#   peers/layout.sh            prints them as JSON
#   peers/layout.sh --write    writes test/fixtures/guest-abi.json
#   peers/layout.sh --check    fails if test/fixtures/guest-abi.json differs
#
# Needs a C compiler (CC, default gcc) for x86_64 and Xen's public headers: Debian's libxen-dev, or XEN_INCLUDE=DIR with
# DIR/xen/xen.h. --check passes over the two lines that only say which Xen the headers are of.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fixture=$root/test/fixtures/guest-abi.json
include=${XEN_INCLUDE:-/usr/include}

if [[ ! -e $include/xen/xen.h ]]; then
	echo "layout: $include/xen/xen.h not found; install libxen-dev or set XEN_INCLUDE" >&2
	exit 2
fi

# The headers carry no release number; the package does.
version=${XEN_VERSION:-$(dpkg-query --showformat='${Version}' --show libxen-dev 2>/dev/null || echo unknown)}
version=${version%%[+-]*}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${CC:-gcc}" -std=gnu11 -Wall -Werror -isystem "$include" -o "$scratch/layout" "$root/peers/layout.c"
"$scratch/layout" "$version" >"$scratch/guest-abi.json"

without_version() {
	grep -v -E '^  "(xen|interfaceVersion)":' "$1"
}

case ${1:-} in
"")
	cat "$scratch/guest-abi.json"
	;;
--write)
	mkdir -p "$(dirname "$fixture")"
	cp "$scratch/guest-abi.json" "$fixture"
	echo "layout: wrote test/fixtures/guest-abi.json from the headers of Xen $version"
	;;
--check)
	without_version "$fixture" >"$scratch/expected"
	without_version "$scratch/guest-abi.json" >"$scratch/actual"
	if ! diff -u --label test/fixtures/guest-abi.json "$scratch/expected" \
		--label "headers of Xen $version" "$scratch/actual"; then
		echo "layout: the headers of Xen $version disagree with test/fixtures/guest-abi.json" >&2
		exit 1
	fi
	echo "layout: the headers of Xen $version agree with test/fixtures/guest-abi.json"
	;;
*)
	echo "usage: peers/layout.sh [--write | --check]" >&2
	exit 2
	;;
esac
