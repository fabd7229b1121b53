# The captures of make.sh: for each file what is recorded where, and what happens meanwhile.

short=128 # snaplen that holds the headers of every packet here, and little more

# record FILE HOST DEVICE [OPTION...] starts tcpdump on a device of a host.
record() {
  local file=$1 host=$2 device=$3; shift 3
  : >"$tmp/record.log"
  (in_ns "$host" tcpdump -Z root -n -i "$device" --time-stamp-precision=nano --immediate-mode \
    -B 16384 -w "$out/$file" "$@") 2>"$tmp/record.log" &
  recorder=$!
  pids+=("$recorder")
  until_recording
}

until_recording() {
  local i
  for ((i = 0; i < 100; i++)); do
    grep -Eq "listening on|^File: " "$tmp/record.log" && return
    sleep 0.1
  done
  echo "make.sh: the recorder does not start:" >&2
  cat "$tmp/record.log" >&2
  exit 1
}

# done_recording ends the last record. A packet that the recorder lost is an error.
done_recording() {
  sleep 1 # for the last acknowledgements and FINs
  kill -INT "$recorder"
  wait "$recorder" || true
  # tcpdump's words, then dumpcap's. Neither of them is an error as well.
  if ! perl -ne '
    if (/^(\d+) packets? dropped by kernel/ || /dropped on interface .*: \d+\/(\d+)/) { $said = 1; $lost += $1 }
    END { exit(!$said || $lost > 0) }' "$tmp/record.log"; then
    echo "make.sh: the recorder lost packets:" >&2
    cat "$tmp/record.log" >&2
    exit 1
  fi
}

get() { local host=$1; shift; on "$host" curl -sSk -o /dev/null --max-time 60 "$@"; }
remote() { local host=$1; shift; on "$host" ssh -F "$tmp/ssh/config" "$@"; }
# fails COMMAND... runs a command that has to fail, such as a ping without answer.
fails() { if "$@" >/dev/null 2>&1; then echo "make.sh: should have failed: $*" >&2; exit 1; fi; }

capture_web() {
  record web.pcap web eth0 -s "$short"
  get laptop http://10.99.2.20/2k
  # Three requests over one connection, the last of them for nothing that exists.
  get laptop http://10.99.2.20/2k -o /dev/null http://10.99.2.20/20k -o /dev/null http://10.99.2.20/nothing
  get laptop http://10.99.2.20/300k
  get phone "http://[fd99::2:20]/2k" -o /dev/null "http://[fd99::2:20]/20k"
  get phone "https://[fd99::2:20]/300k"
  get laptop --head https://10.99.2.20/20k
  fails get laptop http://10.99.2.20:8080/
  fails get phone "http://[fd99::2:20]:8080/"
  done_recording
}

capture_dns() {
  local server
  record dns.pcap dns eth0
  for server in 10.99.2.53 fd99::2:53; do
    on laptop dig "@$server" web.weir.test A
    on laptop dig "@$server" web.weir.test AAAA
    on laptop dig "@$server" weir.test TXT
    on laptop dig "@$server" www.weir.test A +tcp
    on laptop dig "@$server" nobody.weir.test A
    on laptop dig "@$server" -x 10.99.2.20
  done >/dev/null
  # No server listens there: ICMP port unreachable.
  fails on laptop dig @10.99.2.20 +tries=1 +timeout=1 web.weir.test
  fails on laptop dig @fd99::2:20 +tries=1 +timeout=1 web.weir.test
  done_recording
}

capture_ping() {
  record ping.pcap router lan
  local address
  for address in 10.99.2.20 fd99::2:20; do
    on laptop ping -q -c 3 -i 0.2 "$address"
    on laptop ping -q -c 2 -i 0.2 -s 4000 "$address"      # three fragments each way
  done >/dev/null
  fails on laptop ping -c 2 -W 1 10.99.2.98               # no answer
  fails on laptop ping -c 2 -W 1 fd99::2:98
  fails on laptop ping -c 1 -W 4 10.99.2.99               # host unreachable, from the router
  fails on laptop ping -c 1 -W 4 fd99::2:99
  fails on laptop ping -c 2 -W 1 -t 1 10.99.2.20          # time exceeded, from the router
  fails on laptop ping -c 2 -W 1 -t 1 fd99::2:20
  on laptop ping -q -c 2 -T tsandaddr 10.99.2.20 >/dev/null # IPv4 options
  on laptop ping -q -c 1 -R 10.99.2.20 >/dev/null           # the longest IPv4 header: record route
  done_recording
}

capture_ssh() {
  record ssh.pcap files eth0 -s "$short"
  remote desktop 10.99.2.30 'uname -s; seq 1 2000' >/dev/null
  remote desktop fd99::2:30 'for i in 1 2 3 4 5; do echo $i; sleep 0.2; done' >/dev/null
  fails on desktop ssh -F "$tmp/ssh/config" -o BatchMode=yes nobody@10.99.2.30 true
  done_recording
}

capture_iperf() {
  record iperf.pcap files eth0 -s "$short"
  {
    on laptop iperf3 -c 10.99.2.30 -n 200K
    on laptop iperf3 -c fd99::2:30 -n 200K -R
    on laptop iperf3 -c 10.99.2.30 -t 1 -b 1M --bidir -l 4K
    on laptop iperf3 -c 10.99.2.30 -u -b 4M -n 100K -l 1200
    on laptop iperf3 -c fd99::2:30 -u -b 4M -n 60K -l 600 -R
    on laptop iperf3 -c 10.99.2.30 -u -b 2M -n 60K -l 6000    # datagrams in fragments
  } >/dev/null
  done_recording
}

# offload HOST on|off
offload() { on "$1" ethtool -K eth0 tx "$2" tso "$2" gso "$2" >/dev/null; }

capture_tso() {
  offload web on
  record tso.pcap web eth0 -s "$short"
  get laptop http://10.99.2.20/8m
  get laptop "http://[fd99::2:20]/8m"
  done_recording
  offload web off
}

capture_bigtcp() {
  # On the way the bridge cuts the packets to 64 KiB again; only the sender sees them whole.
  # Not nginx: a packet of sendfile's single pages ends at 17 of them, about 68 KiB.
  offload files on
  ip -n weir-files link set dev eth0 gso_max_size 190000
  record bigtcp.pcap files eth0 -s "$short"
  on laptop iperf3 -c fd99::2:30 -n 5M -l 512K -R >/dev/null
  done_recording
  ip -n weir-files link set dev eth0 gso_max_size 65536
  offload files off
}

capture_cooked() {
  # The router sees what it forwards twice, once by each interface.
  record cooked.pcap router any -s "$short"
  some_traffic
  done_recording
  record cooked1.pcap web any -s "$short" -y LINUX_SLL
  some_traffic
  get web http://127.0.0.1/2k
  done_recording
}

some_traffic() {
  ip -n weir-router neighbour flush dev srv
  get laptop http://web.weir.test/20k
  get phone -6 http://web.weir.test/20k
  on desktop ping -q -c 2 -i 0.2 10.99.2.20 >/dev/null
  on web ping -q -c 2 -i 0.2 fd99::1:11 >/dev/null
  on web ping -q -c 1 -i 0.2 ff02::1%eth0 >/dev/null
}

capture_lo() {
  record lo.pcap web lo -s "$short"
  get web http://127.0.0.1/300k
  get web "http://[::1]/300k"
  on web ping -q -c 2 -i 0.2 127.0.0.1 >/dev/null
  fails get web http://127.0.0.1:8080/
  fails on web dig @127.0.0.1 +tries=1 +timeout=1 web.weir.test
  done_recording
}

capture_tun() {
  # ssh -w makes a tun device at either end, and so the raw IP packets of real programs.
  (in_ns desktop ssh -F "$tmp/ssh/config" -N -o ExitOnForwardFailure=yes -w 0:0 10.99.2.30) &
  local tunnel=$! i
  pids+=("$tunnel")
  for ((i = 0; i < 100; i++)); do
    on files ip link show tun0 >/dev/null 2>&1 && on desktop ip link show tun0 >/dev/null 2>&1 && break
    sleep 0.1
  done
  ip -n weir-desktop address add 10.99.9.1 peer 10.99.9.2 dev tun0
  ip -n weir-desktop address add fd99::9:1/112 dev tun0 nodad
  ip -n weir-desktop link set dev tun0 up
  ip -n weir-files address add 10.99.9.2 peer 10.99.9.1 dev tun0
  ip -n weir-files address add fd99::9:2/112 dev tun0 nodad
  ip -n weir-files link set dev tun0 up
  record tun.pcap desktop tun0 -s "$short"
  on desktop ping -q -c 2 -i 0.2 10.99.9.2 >/dev/null
  on desktop ping -q -c 2 -i 0.2 fd99::9:2 >/dev/null
  on desktop iperf3 -c 10.99.9.2 -n 60K >/dev/null
  on desktop iperf3 -c fd99::9:2 -n 60K -R >/dev/null
  fails get desktop http://10.99.9.2/
  done_recording
  kill "$tunnel"
  wait "$tunnel" || true
}

capture_mixed() {
  : >"$tmp/record.log"
  (in_ns router dumpcap -q -s "$short" -i lan -i srv -w "$out/mixed.pcapng") 2>"$tmp/record.log" &
  recorder=$!
  pids+=("$recorder")
  until_recording
  some_traffic
  done_recording
  # dumpcap says on which processor and kernel it ran: that is nobody's business.
  # The strings keep their lengths, and so the blocks theirs.
  HARDWARE=$(capinfos -F "$out/mixed.pcapng" | sed -n 's/^Capture hardware: *//p') \
    SYSTEM="Linux $(uname -r)" perl -0777 -pi -e '
    for my $said (grep { length } $ENV{HARDWARE}, $ENV{SYSTEM}) { s/\Q$said\E/"x" x length $said/ge }' "$out/mixed.pcapng"
}

capture_vlan() {
  # Five pairs of hosts at either end of one trunk, each in a VLAN of its own, and
  # all of them with the same two addresses: only the tags tell them apart.
  local tags=("" 8100:0064 8100:20c8 8100:a000 88a8:012c,8100:0064) i side
  namespace trunk
  on trunk sysctl -qw net.ipv6.conf.default.disable_ipv6=1
  ip -n weir-trunk link add name a type veth peer name b
  for side in a b; do
    on trunk ethtool -K $side tx off >/dev/null
    ip -n weir-trunk link set dev $side mtu 1600 up # room for two tags
    local ports=()
    for i in "${!tags[@]}"; do
      namespace "$side$i"
      ip -n weir-trunk link add name "$side$i" type veth peer name eth0 netns "weir-$side$i"
      on "$side$i" ethtool -K eth0 tx off >/dev/null
      ip -n weir-trunk link set dev "$side$i" up
      local number=1; [[ $side == b ]] && number=2
      ip -n "weir-$side$i" address add "10.99.3.$number/24" dev eth0
      ip -n "weir-$side$i" address add "fd99::3:$number/112" dev eth0 nodad
      ip -n "weir-$side$i" link set dev eth0 up
      ports+=("$side$i=${tags[i]}")
    done
    start trunk "$tmp/vlanports" "$side" "${ports[@]}"
  done
  for i in "${!tags[@]}"; do web_server "b$i" 80; done
  sleep 2.5 # see network
  [[ $(grep -c '^ready$' "$tmp/servers.log") == 2 ]] || { cat "$tmp/servers.log" >&2; exit 1; }
  record vlan.pcap trunk a -s 160
  for i in "${!tags[@]}"; do
    on "a$i" ping -q -c 2 -i 0.2 10.99.3.2 >/dev/null
    on "a$i" ping -q -c 1 -s 3000 fd99::3:2 >/dev/null
    get "a$i" --local-port 40000 http://10.99.3.2/20k # one 5-tuple in five VLANs
    get "a$i" "http://[fd99::3:2]/2k"
    fails get "b$i" "http://[fd99::3:1]/" # refused
  done
  done_recording
}

source "$here/make.d/long.sh"

# derived makes the files that are other files in another form.
derived() {
  gzip -9nk "$out/web.pcap"
  zstd -q -19 -k "$out/web.pcap"
  # Sixty packets and not quite another one.
  tcpdump -r "$out/web.pcap" --time-stamp-precision=nano -c 61 -w "$tmp/61.pcap" 2>/dev/null
  head -c -20 "$tmp/61.pcap" >"$out/cut.pcap"
}
