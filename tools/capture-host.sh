#!/usr/bin/env bash
# Takes a capture of a running Xen host, in dom0: the images of its guests and what the hypervisor says about them.
# docs/CAPTURE.md tells what each file is for and what memory contents a capture holds.
set -euo pipefail

usage() {
	cat <<'END'
Usage: capture-host.sh [OPTION]... DIRECTORY [GUEST]...

Takes a capture of this Xen host into DIRECTORY, which must not exist yet. Run it as root in dom0.

Every GUEST (default: each running one) is suspended and kept with `xl save -p`: saved, then held paused while the
hypervisor's dumps are read, so that image and dumps show the same moment. Guests are unpaused at the end.

  -s, --strip-memory   leave the contents of ordinary guest pages out of the images, before they reach a disk
  -c, --config FILE    add a guest's configuration file; may be repeated
  -k, --keep-paused    leave the guests paused at the end; each stays so until `xl unpause GUEST`
  -h, --help           this text

A reader of the capture needs an image of every living guest: to capture only some, shut the others down first. A
guest must be able to suspend (its kernel has Xen drivers), and none may be paused beforehand. Device model stub
domains cannot be saved.

Alternatives to `xl save -p`, and why they are not used: `xl save -c` lets the guest run on, so that dumps and image
no longer agree; `xl save` alone destroys it; `xl pause` alone gives dumps without an image.

The hypervisor's console ring is read and emptied; what was in it goes to DIRECTORY/xl-dmesg.txt. On a host with many
guests a dump may outgrow the ring: boot Xen with conring_size=2M.

If anything required fails, guests that were paused are unpaused and DIRECTORY is removed.
Exit status: 0 done, 1 failed, 2 usage.
END
}

note() {
	printf 'capture-host: %s\n' "$*" >&2
}

die() {
	note "$@"
	exit 1
}

bad_usage() {
	note "$@"
	note "try --help"
	exit 2
}

strip_memory=false
keep_paused=false
configs=()
arguments=()
while [[ $# -gt 0 ]]; do
	case $1 in
	-h | --help)
		usage
		exit 0
		;;
	-s | --strip-memory) strip_memory=true ;;
	-k | --keep-paused) keep_paused=true ;;
	-c | --config)
		[[ $# -ge 2 ]] || bad_usage "$1 needs a file"
		configs+=("$2")
		shift
		;;
	--)
		shift
		arguments+=("$@")
		break
		;;
	-*) bad_usage "unknown option $1" ;;
	*) arguments+=("$1") ;;
	esac
	shift
done
[[ ${#arguments[@]} -ge 1 ]] || bad_usage "no DIRECTORY given"
directory=${arguments[0]}
guests=("${arguments[@]:1}")
strip_image=$(dirname "${BASH_SOURCE[0]}")/strip-image.py

# Prerequisites: all of them, before anything is touched.

[[ $(id -u) -eq 0 ]] || die "must run as root in dom0"
for program in xl gzip awk mkfifo; do
	command -v "$program" >/dev/null || die "$program not found"
done
if $strip_memory; then
	command -v python3 >/dev/null || die "python3 not found, which --strip-memory needs"
	[[ -r $strip_image ]] || die "$strip_image not found, which --strip-memory needs"
fi
[[ ! -e $directory && ! -L $directory ]] || die "$directory exists; nothing is overwritten"
for config in ${configs[@]+"${configs[@]}"}; do
	[[ -r $config ]] || die "$config cannot be read"
done
xl info >/dev/null || die "xl info failed: is this dom0 of a running Xen?"

# Name and state of each domain; xl prints (null) for one that is dead and still referenced.
list=$(xl list) || die "xl list failed"
domains=$(awk 'NR > 1 && $2 != 0 { print $1, $5 }' <<<"$list")
if [[ ${#guests[@]} -eq 0 ]]; then
	mapfile -t guests < <(awk '$1 != "(null)" && $2 !~ /[sd]/ { print $1 }' <<<"$domains")
else
	others=$(awk -v named=" ${guests[*]} " \
		'$1 != "(null)" && $2 !~ /[sd]/ && !index(named, " " $1 " ") { printf " %s", $1 }' <<<"$domains")
	[[ -z $others ]] || note "no image will be taken of:$others; a reader refuses the capture while they live"
fi
[[ ${#guests[@]} -gt 0 ]] || die "no running guest"
for guest in "${guests[@]}"; do
	[[ $guest != */* && $guest != .* ]] || die "$guest cannot be a file's name"
	state=$(awk -v name="$guest" '$1 == name { print $2 }' <<<"$domains")
	[[ -n $state ]] || die "no guest $guest; give names as xl list prints them"
	case $state in
	*p*) die "$guest is paused; xl unpause it first" ;;
	*[sd]*) die "$guest is shut down or dying ($state)" ;;
	esac
done

# From here on everything is undone on failure.

umask 077
reader=
paused=()
complete=false

unpause_guests() {
	local guest failed=0
	for guest in ${paused[@]+"${paused[@]}"}; do
		if ! xl unpause "$guest"; then
			note "$guest is still paused: xl unpause $guest"
			failed=1
		fi
	done
	paused=()
	return $failed
}

clean_up() {
	local status=$?
	trap - EXIT
	if [[ -n $reader ]]; then
		# The reader sees the image's end once its last writer is gone.
		exec 9>&-
		wait "$reader" 2>/dev/null || true
	fi
	if ! $complete; then
		unpause_guests || true
		rm -rf "${directory:?}"
		note "failed; $directory removed"
		[[ $status -ne 0 ]] || status=1
	fi
	exit "$status"
}

mkdir "$directory" || die "$directory cannot be made"
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# The image goes through a pipe, so that no page content reaches a disk that --strip-memory is to leave out.
read_image() {
	if $strip_memory; then
		python3 "$strip_image" | gzip -n >"$1"
	else
		gzip -n >"$1"
	fi
}

save_guest() {
	local guest=$1 image=$directory/$1.xlsave.gz fifo=$directory/.image
	mkfifo "$fifo"
	# Opening one end of a pipe waits for the other, for ever if xl fails before it opens its own. So both ends are opened
	# here, by way of a third that is both. What is left open is the writing end: closing it ends the image.
	# shellcheck disable=SC2094
	exec 8<>"$fifo" 7<"$fifo" 9>"$fifo"
	exec 8>&-
	read_image "$image" <&7 7<&- 9>&- &
	reader=$!
	exec 7<&-
	note "saving $guest"
	# Held even if xl fails half-way: an unpause too many is an error message, one too few a guest that stands still.
	paused+=("$guest")
	xl save -p "$guest" "$fifo" 9>&- >&2 || die "xl save -p $guest failed"
	exec 9>&-
	wait "$reader" || die "the image of $guest could not be written"
	reader=
	rm -f "$fifo"
	[[ -s $image ]] || die "the image of $guest is empty"
}

# Reads the console ring until it stands still, then empties it.
drain_ring() {
	local before after
	before=$(xl dmesg | cksum)
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 0.3
		after=$(xl dmesg | cksum)
		[[ $after != "$before" ]] || break
		before=$after
	done
	xl dmesg -c
}

# debug_key KEY required|optional FIRST [LAST]: takes one dump; FIRST and LAST are patterns of its first and last line.
# Where a pattern has no match, the ring was too small to hold all of the dump.
debug_key() {
	local key=$1 need=$2 first=$3 last=${4:-} file=$directory/debugkey-$1.txt problem=
	drain_ring >>"$directory/xl-dmesg.txt"
	if ! xl debug-keys "$key"; then
		problem="xl debug-keys $key failed"
	else
		# Guests' console output may stand between the hypervisor's lines.
		drain_ring | awk -v first="$first" '/^\(XEN\)/ { if ($0 ~ first) seen = 1; if (seen) print }' >"$file"
		if ! grep -q . "$file"; then
			problem="debug key $key: its first line is not in the console ring; boot Xen with conring_size=2M"
		elif [[ -n $last ]] && ! grep -q -E -e "$last" "$file"; then
			problem="debug key $key: its last line is not in the console ring; boot Xen with conring_size=2M"
		fi
	fi
	[[ -z $problem ]] || rm -f "$file"
	case $problem:$need in
	:*) ;;
	*:required) die "$problem" ;;
	*) note "$problem; left out" ;;
	esac
}

# optional FILE COMMAND...: keeps a command's output, or says that there is none.
optional() {
	local file=$directory/$1
	shift
	if ! command -v "$1" >/dev/null; then
		note "$1 not found; ${file##*/} left out"
	elif ! "$@" >"$file" 2>/dev/null; then
		note "$* failed; ${file##*/} left out"
		rm -f "$file"
	fi
}

# Xen keeps some tools out of PATH; the newest version wins.
for tools in /usr/lib/xen-*/bin /usr/lib/xen/bin /usr/lib64/xen/bin /usr/local/lib/xen/bin; do
	[[ ! -d $tools ]] || PATH=$PATH:$tools
done

for guest in "${guests[@]}"; do
	save_guest "$guest"
done

# Key q comes after e: it sends VIRQ_DEBUG to each guest's vCPUs, which sets pending bits that the images do not have.
debug_key e required "'e' pressed"
debug_key g required "gnttab_usage_print_all.*pressed" "gnttab_usage_print_all.*done"
debug_key q required "'q' pressed"
debug_key m optional "'m' pressed|Physical memory information"
debug_key 0 optional "'0' pressed"
for key in s t v; do
	debug_key "$key" optional .
done

optional xl-info.txt xl info
optional xl-list.txt xl list -v
optional xl-list-l.json xl list -l
optional xl-vcpu-list.txt xl vcpu-list
# Nodes; watches and transactions are in the daemon's own dump alone (docs/CAPTURE.md, xenstore.dump).
optional xenstore-ls.txt xenstore-ls -fp
optional lsevtchn-dom0.txt lsevtchn 0

capture_vcpus() {
	local domid=$1 vcpus=$2 vcpu
	for ((vcpu = 0; vcpu < vcpus; vcpu++)); do
		echo "vcpu$vcpu:"
		xenctx "$domid" "$vcpu" || return
	done
}

for guest in "${guests[@]}"; do
	# One guest's files have plain names, several guests' carry the guest's.
	suffix=
	[[ ${#guests[@]} -eq 1 ]] || suffix=-$guest
	domid=$(xl domid "$guest") || die "$guest is gone"
	vcpus=$(xl vcpu-list "$guest" | awk 'NR > 1' | grep -c .) || vcpus=0
	optional "lsevtchn$suffix.txt" lsevtchn "$domid"
	if command -v xenctx >/dev/null; then
		optional "xenctx$suffix.txt" capture_vcpus "$domid" "$vcpus"
	else
		note "xenctx not found; xenctx$suffix.txt left out"
	fi
	# A PV guest has no HVM context.
	optional "xen-hvmctx$suffix.txt" xen-hvmctx "$domid"
done

for config in ${configs[@]+"${configs[@]}"}; do
	cp -- "$config" "$directory/"
done

complete=true
if $keep_paused; then
	for guest in "${guests[@]}"; do
		note "$guest stays paused until: xl unpause $guest"
	done
else
	unpause_guests || exit 1
fi
$strip_memory || note "the images hold the guests' memory: keep $directory as secret as the guests themselves"
note "captured ${#guests[@]} guest(s) into $directory"
