# shellcheck shell=bash
# Sourced by the peers that run Xen's own Python tools. They need no hypervisor, only Debian's package xen-utils-4.17.
#
#   find_xen_tools SCRATCH    sets xen_tools to a directory with bin/ and lib/python/
#
# Looked for in this order: XEN_TOOLS (such a directory), an installed package, the package fetched and unpacked into
# SCRATCH. Installing it would bring Xen's services onto a machine that runs no Xen, so nothing here does.

find_xen_tools() {
	local scratch=$1 candidate
	local package=${XEN_TOOLS_PACKAGE:-xen-utils-4.17}
	for candidate in "${XEN_TOOLS:-}" /usr/lib/xen-*; do
		if [[ -n $candidate && -e $candidate/bin/verify-stream-v2 ]]; then
			xen_tools=$candidate
			return
		fi
	done
	mkdir -p "$scratch/fetch"
	# apt's download user must be able to write there.
	chmod 755 "$scratch" && chmod 777 "$scratch/fetch"
	if ! (cd "$scratch/fetch" && apt-get download "$package" >/dev/null && dpkg -x ./*.deb "$scratch/unpacked"); then
		echo "Xen's tools not found: set XEN_TOOLS, or run apt-get update so that $package can be fetched" >&2
		return 1
	fi
	for candidate in "$scratch"/unpacked/usr/lib/xen-*; do
		if [[ -e $candidate/bin/verify-stream-v2 ]]; then
			# Read by the script that sources this file.
			# shellcheck disable=SC2034
			xen_tools=$candidate
			return
		fi
	done
	echo "$package holds no verify-stream-v2" >&2
	return 1
}
