# The network of make.sh: an office and a server room with a router between them.
#
#   office 10.99.1.0/24, fd99::1:0/112        servers 10.99.2.0/24, fd99::2:0/112
#
#   laptop .10  desktop .11  phone .12 ──┐              ┌── web .20  files .30  dns .53
#   printer .30  monitor .40           ──┴─lan router srv──┘
#
# Each host is a network namespace weir-NAME with one veth eth0 into a bridge of
# namespace weir-switch. Checksum and segmentation offload are off unless a
# capture turns them on, so that the recordings look like those of a wire.

# in_ns NAME COMMAND... runs a command on a host. It does not fork: $! is the command.
in_ns() { local ns=$1; shift; exec ip netns exec "weir-$ns" "$@"; }
on() { (in_ns "$@"); }

# plug NAME BRIDGE DEVICE adds a veth DEVICE to host NAME, its other end in the bridge.
plug() {
  ip -n weir-switch link add "p-$1" type veth peer name "$3" netns "weir-$1"
  ip -n weir-switch link set dev "p-$1" master "$2" up
  on "$1" ethtool -K "$3" tx off >/dev/null
  ip -n "weir-$1" link set dev "$3" up
}

# namespace NAME makes a host without a link.
namespace() {
  ip netns add "weir-$1"
  ip -n "weir-$1" link set dev lo up
}

# host NAME NET NUMBER makes a host with address .NUMBER in 10.99.NET.0/24 and its like in IPv6.
host() {
  namespace "$1"
  plug "$1" "net$2" eth0
  ip -n "weir-$1" address add "10.99.$2.$3/24" dev eth0
  ip -n "weir-$1" address add "fd99::$2:$3/112" dev eth0 nodad
  ip -n "weir-$1" route add default via "10.99.$2.1"
  ip -n "weir-$1" route add default via "fd99::$2:1"
}

network() {
  namespace switch
  on switch sysctl -qw net.ipv6.conf.default.disable_ipv6=1 # a switch has no addresses
  local net
  for net in 1 2; do
    ip -n weir-switch link add "net$net" type bridge mcast_snooping 0
    ip -n weir-switch link set dev "net$net" up
  done
  host laptop 1 10
  host desktop 1 11
  host phone 1 12
  host printer 1 30
  host monitor 1 40
  host web 2 20
  host files 2 30
  host dns 2 53

  namespace router
  on router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  for net in 1 2; do
    ip -n weir-switch link add "p-router$net" type veth peer name "r$net" netns weir-router
    ip -n weir-switch link set dev "p-router$net" master "net$net" up
  done
  ip -n weir-router link set dev r1 name lan
  ip -n weir-router link set dev r2 name srv
  for net in 1 2; do
    local device; ((net == 1)) && device=lan || device=srv
    on router ethtool -K "$device" tx off >/dev/null
    ip -n weir-router link set dev "$device" up
    ip -n weir-router address add "10.99.$net.1/24" dev "$device"
    ip -n weir-router address add "fd99::$net:1/112" dev "$device" nodad
  done
  # A host that is switched off but not forgotten: what is sent to it gets no answer at all.
  ip -n weir-router neighbour add 10.99.2.98 lladdr 02:00:00:00:00:98 dev srv nud permanent
  ip -n weir-router neighbour add fd99::2:98 lladdr 02:00:00:00:00:98 dev srv nud permanent
  sleep 2.5 # until the link-local addresses are no longer tentative
}

# start HOST COMMAND... runs a server until the end.
start() {
  (in_ns "$@") >>"$tmp/servers.log" 2>&1 &
  pids+=($!)
}

# until_listening HOST PORT waits for a server.
until_listening() {
  local i
  for ((i = 0; i < 100; i++)); do
    [[ $(on "$1" ss -Hltn "sport = :$2") ]] && return
    sleep 0.1
  done
  echo "make.sh: nothing listens on $1 port $2:" >&2
  cat "$tmp/servers.log" >&2
  exit 1
}

# web_server HOST PORT [TLS-PORT]
web_server() {
  local tls=""
  [[ ${3-} ]] && tls="listen $3 ssl; listen [::]:$3 ssl;
    ssl_certificate $tmp/tls.crt; ssl_certificate_key $tmp/tls.key;"
  cat >"$tmp/nginx-$1.conf" <<END
user root; daemon off; worker_processes 1; pid $tmp/nginx-$1.pid; error_log stderr;
events {}
http {
  access_log off; sendfile on; keepalive_timeout 90; keepalive_requests 1000;
  client_body_temp_path $tmp/nginx-$1; proxy_temp_path $tmp/nginx-$1; fastcgi_temp_path $tmp/nginx-$1;
  uwsgi_temp_path $tmp/nginx-$1; scgi_temp_path $tmp/nginx-$1; client_max_body_size 10m;
  server {
    listen $2; listen [::]:$2; $tls
    root $tmp/www;
    location /slow/ { alias $tmp/www/; limit_rate 90k; }
    location /print { dav_methods PUT; root $tmp/print; }
  }
}
END
  start "$1" nginx -c "$tmp/nginx-$1.conf" -e stderr
  until_listening "$1" "$2"
}

services() {
  mkdir "$tmp"/{www,print,tftp,ssh}
  local size
  for size in 2k 20k 300k 2m 3m 8m; do truncate -s "$size" "$tmp/www/$size"; done
  truncate -s 40k "$tmp/tftp/firmware"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=web.weir.test \
    -keyout "$tmp/tls.key" -out "$tmp/tls.crt" 2>/dev/null
  web_server web 80 443
  web_server printer 631

  cat >"$tmp/dnsmasq.conf" <<END
keep-in-foreground
no-resolv
no-hosts
user=root
pid-file
cache-size=0
local=/test/
host-record=web.weir.test,10.99.2.20,fd99::2:20
host-record=files.weir.test,10.99.2.30,fd99::2:30
host-record=dns.weir.test,10.99.2.53,fd99::2:53
host-record=printer.weir.test,10.99.1.30,fd99::1:30
host-record=off.weir.test,10.99.2.98,fd99::2:98
cname=www.weir.test,web.weir.test
txt-record=weir.test,"v=weir1 a text record"
enable-tftp
tftp-root=$tmp/tftp
END
  start dns dnsmasq -C "$tmp/dnsmasq.conf"
  until_listening dns 53
  # All hosts ask that server. The file may be a link into the /run that we have hidden.
  local resolv; resolv=$(readlink -m /etc/resolv.conf)
  mkdir -p "$(dirname "$resolv")"; [[ -e $resolv ]] || touch "$resolv"
  echo "nameserver 10.99.2.53" >"$tmp/resolv.conf"
  mount --bind "$tmp/resolv.conf" "$resolv"

  ssh-keygen -q -t ed25519 -N '' -C weir -f "$tmp/ssh/host"
  ssh-keygen -q -t ed25519 -N '' -C weir -f "$tmp/ssh/user"
  cat >"$tmp/ssh/sshd_config" <<END
HostKey $tmp/ssh/host
AuthorizedKeysFile $tmp/ssh/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PermitTunnel yes
Subsystem sftp internal-sftp
END
  cat >"$tmp/ssh/config" <<END
Host *
  User root
  IdentityFile $tmp/ssh/user
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
END
  start files "$(command -v sshd)" -D -e -f "$tmp/ssh/sshd_config"
  until_listening files 22
  start files iperf3 -s
  until_listening files 5201
}
