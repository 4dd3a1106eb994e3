#!/usr/bin/env bash
# Is the core linked natively the same core? Both flavours restore every golden stream and must come to the digest that
# the module comes to in Node, and must refuse damaged streams by the same rule, with the same exit status.
#
#   peers/native.sh [STREAM.xlu ...]     default: all of test/golden
#
# Builds them first (tools/build-native.mjs). Needs a built dist/, gcc and binutils, and Debian's libsimde-dev.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

node tools/build-native.mjs
for flavour in plain simd; do
	gcc -std=gnu11 -O2 -Wall -Wextra -Werror -I "build/native/$flavour" -o "$scratch/runtime-$flavour" \
		peers/native-runtime.c "build/native/$flavour/libxlu.a"
	"$scratch/runtime-$flavour"
done

streams=("$@")
if [[ ${#streams[@]} -eq 0 ]]; then
	mapfile -d "" streams < <(find test/golden -name '*.xlu' -print0 | sort -z)
fi
if [[ ${#streams[@]} -eq 0 ]]; then
	echo "native: no streams found" >&2
	exit 1
fi

compared=0
failed=0

# Both print `digest:0x...`, or `rule:XLU-Rnnn` of a refusal, and return the exit status.
in_node() {
	node dist/cli/main.js restore "$1" --json 2>/dev/null | grep -oE '"digest":"[^"]*"|"rule":"[^"]*"' | tr -d '"'
	return "${PIPESTATUS[0]}"
}

in_native() {
	local output status=0
	output=$("$1" "$2" 2>&1) || status=$?
	if [[ $status -eq 0 ]]; then
		echo "digest:$output"
	else
		echo "rule:$(grep -oE 'XLU-R[0-9]{3}' <<<"$output" | head -n 1)"
	fi
	return "$status"
}

compare() {
	local what=$1 stream=$2 expected actual status=0 flavour
	expected=$(in_node "$stream") || status=$?
	expected="$expected, status $status"
	for flavour in plain simd; do
		status=0
		actual=$(in_native "build/native/$flavour/xlu-native" "$stream") || status=$?
		actual="$actual, status $status"
		compared=$((compared + 1))
		if [[ $actual != "$expected" ]]; then
			failed=$((failed + 1))
			echo "native: $what, $flavour: expected $expected; got $actual" >&2
		fi
	done
	echo "native: $what: $expected"
}

for stream in "${streams[@]}"; do
	name=$(basename "$stream")
	compare "$name" "$stream"
	length=$(stat --format=%s "$stream")
	cp "$stream.mem" "$scratch/damaged.xlu.mem"
	# An octet of the header, of the first sections, of the middle and of the index turned over; the stream cut short.
	for at in 3 11 18 40 900 $((length / 2)) $((length - 40)) $((length - 4)); do
		cp "$stream" "$scratch/damaged.xlu"
		octet=$(od -An -tu1 -j "$at" -N 1 "$stream")
		# shellcheck disable=SC2059
		printf "\\x$(printf '%02x' $((octet ^ 255)))" |
			dd of="$scratch/damaged.xlu" bs=1 seek="$at" conv=notrunc status=none
		compare "$name, octet $at turned over" "$scratch/damaged.xlu"
	done
	head -c $((length / 3)) "$stream" >"$scratch/damaged.xlu"
	compare "$name, cut short" "$scratch/damaged.xlu"
	# Memory of another content, and none at all.
	cp "$stream" "$scratch/damaged.xlu"
	head -c -1 "$stream.mem" >"$scratch/damaged.xlu.mem"
	printf '\x5a' >>"$scratch/damaged.xlu.mem"
	compare "$name, memory of another content" "$scratch/damaged.xlu"
	rm "$scratch/damaged.xlu.mem"
	compare "$name, without its memory" "$scratch/damaged.xlu"
done

status=0
build/native/plain/xlu-native 2>/dev/null || status=$?
[[ $status -eq 2 ]] || { echo "native: without arguments: expected status 2, got $status" >&2 && failed=$((failed + 1)); }
status=0
build/native/plain/xlu-native "$scratch/absent.xlu" 2>/dev/null || status=$?
[[ $status -eq 2 ]] || { echo "native: no such file: expected status 2, got $status" >&2 && failed=$((failed + 1)); }

echo "native: $compared comparisons, $failed failed"
[[ $failed -eq 0 ]]
