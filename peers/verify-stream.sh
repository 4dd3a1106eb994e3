#!/usr/bin/env bash
# Has Xen's own verify-stream-v2 read every image of the fixtures: they are what they claim to be, headers to END. Without
# arguments also what is converted from them, the libxc parts of bundles, and mutations, of which this project has to refuse
# all that the peer refuses.
#
#   peers/verify-stream.sh [IMAGE.xlsave[.gz] ...]     default: all of examples/ and test/fixtures/
#   MUTATIONS=600 peers/verify-stream.sh
#
# Needs python3 and Debian's xen-utils-4.17, installed or fetchable (see xen-tools.sh).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# shellcheck source=peers/xen-tools.sh
. "$root/peers/xen-tools.sh"
find_xen_tools "$scratch"

images=("$@")
if [[ ${#images[@]} -eq 0 ]]; then
	mapfile -d "" images < <(find "$root/examples" "$root/test/fixtures" -name '*.xlsave.gz' -print0 | sort -z)
fi
if [[ ${#images[@]} -eq 0 ]]; then
	echo "verify-stream: no images found" >&2
	exit 1
fi

failed=0
for image in "${images[@]}"; do
	case $image in
	*.gz) gunzip -c "$image" >"$scratch/image" ;;
	*) cp "$image" "$scratch/image" ;;
	esac
	if PYTHONPATH=$xen_tools/lib/python PYTHONDONTWRITEBYTECODE=1 \
		python3 "$xen_tools/bin/verify-stream-v2" -f xl -i "$scratch/image"; then
		echo "verify-stream: accepted ${image#"$root/"}"
	else
		echo "verify-stream: REFUSED ${image#"$root/"}" >&2
		failed=$((failed + 1))
	fi
done
echo "verify-stream: ${#images[@]} images, $failed refused"
if [[ $# -eq 0 ]]; then
	PYTHONPATH=$xen_tools/lib/python PYTHONDONTWRITEBYTECODE=1 \
		node "$root/peers/verify-stream-mutations.mjs" "$xen_tools" "$scratch" "${MUTATIONS:-600}" || failed=$((failed + 1))
fi
[[ $failed -eq 0 ]]
