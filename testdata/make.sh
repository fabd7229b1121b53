#!/bin/bash
# Makes the captures of this folder anew: real programs talk to each other
# between network namespaces, and tcpdump and dumpcap record them. README.md says
# what each file holds; its table of contents is written by this script as well.
#
#   testdata/make.sh            as root; takes about two and a half minutes
#
# Everything happens in mount, PID and UTS namespaces of its own, with a fresh
# /run: the network namespaces, programs and files that it makes are invisible
# outside and gone with its last process, however it ends. The files here are
# replaced only when all of them were made. The expected records in golden/ belong
# to these very recordings and have to be made anew after it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# command:package of Debian 12; go has to be the one that go.mod asks for
needs="ip:iproute2 ss:iproute2 sysctl:procps hostname:hostname ping:iputils-ping ethtool:ethtool unshare:util-linux
  tcpdump:tcpdump tshark:tshark dumpcap:wireshark-common
  capinfos:wireshark-common curl:curl nginx:nginx-light dnsmasq:dnsmasq-base dig:dnsutils
  iperf3:iperf3 ssh:openssh-client scp:openssh-client ssh-keygen:openssh-client
  sshd:openssh-server openssl:openssl perl:perl-base gzip:gzip zstd:zstd go:golang"

check_programs() {
  local need missing=""
  for need in $needs; do
    command -v "${need%%:*}" >/dev/null || [[ "$missing " == *" ${need##*:} "* ]] || missing+=" ${need##*:}"
  done
  if [[ $missing ]]; then
    echo "make.sh: programs are missing; install the Debian packages:$missing" >&2
    exit 1
  fi
}

PATH=$PATH:/usr/sbin:/sbin
if [[ ${1-} != --inside ]]; then
  if ((EUID != 0)); then
    echo "make.sh: has to be root, to make network namespaces" >&2
    exit 1
  fi
  check_programs
  # Built out here, where the Go caches are.
  build=$(mktemp -d) inner=""
  # With unshare dies the first process of the namespace, and with that all the others.
  trap '[[ ! $inner ]] || kill -KILL "$inner"; rm -rf "$build"' EXIT
  (cd "$here/.." && go build -o "$build/vlanports" ./testdata/vlanports)
  unshare --mount --uts --pid --fork --kill-child --mount-proc "${BASH_SOURCE[0]}" --inside "$build" &
  inner=$!
  status=0
  wait "$inner" || status=$?
  inner=""
  exit "$status"
fi

tmp=$2                # gone with the outer script
out=$tmp/out          # the files, until all of them are made
pids=()               # what runs in the background
trap '((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true' EXIT
mkdir "$out"
chmod 755 "$tmp"
hostname weir
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/netns /run/sshd
export LC_ALL=C

source "$here/make.d/network.sh"
source "$here/make.d/captures.sh"
source "$here/make.d/contents.sh"

network
services
for capture in web dns ping ssh iperf tso bigtcp cooked lo tun mixed vlan long; do
  echo "== $capture" >&2
  "capture_$capture"
done
derived
contents
install -m 644 "$out"/* "$here/"
