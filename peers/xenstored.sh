#!/usr/bin/env bash
# Has the real xenstored of Debian's Xen 4.17 start from what this project writes, and read it back node for node: its own
# dumps written anew, converted from version 2 and from JSON, one domain's part spliced into another daemon. Then streams
# with something wrong: whatever kills the daemon has to be refused here with --for xenstored-4.17.
#
#   peers/xenstored.sh
#   MUTATIONS=120 peers/xenstored.sh
#
# Needs python3, gcc, xenstore-utils, the libraries that libxen-dev brings, and xen-utils-4.17, installed or fetchable
# (see xen-tools.sh). No hypervisor: a preloaded library stands in for it (xenstored-accepts.sh).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# shellcheck source=peers/xen-tools.sh
. "$root/peers/xen-tools.sh"
find_xen_tools "$scratch"

XENSTORED=$xen_tools/bin/xenstored node "$root/peers/xenstored.mjs" "$scratch" "${MUTATIONS:-120}"
