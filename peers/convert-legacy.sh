#!/usr/bin/env bash
# Holds the conversion of legacy libxc images against Xen's own convert-legacy-stream, octet for octet, on images of all kinds
# that test/support/legacy.ts writes; has verify-stream-v2 read what is converted; damages images and compares refusals.
#
#   peers/convert-legacy.sh [MUTATIONS]     default: 500
#
# Needs python3 and Debian's xen-utils-4.17, installed or fetchable (see xen-tools.sh).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# shellcheck source=peers/xen-tools.sh
. "$root/peers/xen-tools.sh"
find_xen_tools "$scratch"
PYTHONPATH=$xen_tools/lib/python PYTHONDONTWRITEBYTECODE=1 \
	node "$root/peers/convert-legacy.mjs" "$xen_tools" "$scratch" "${1:-500}"
