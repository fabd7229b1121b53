# long.pcap: 76 seconds of the whole network, as the router's office side sees it.
# `weir demo` replays it. Long enough for intervals of ten seconds with flows that
# last over many of them, flows that fall silent and come again, and short ones.

capture_long() {
  local began=$SECONDS host jobs=()
  record long.pcap router lan -s "$short"
  for host in laptop desktop phone printer monitor web files; do
    "day_of_$host" >/dev/null 2>"$tmp/day.$host" &
    jobs+=($!)
  done
  for host in "${jobs[@]}"; do
    wait "$host" || { echo "make.sh: long.pcap:" >&2; cat "$tmp"/day.* >&2; exit 1; }
  done
  done_recording
  echo "long.pcap took $((SECONDS - began)) s" >&2
}

# at SECOND waits until that second of the recording.
at() { local left=$((began + $1 - SECONDS)); ((left <= 0)) || sleep "$left"; }

# Browses over one connection that is kept alive, and downloads.
day_of_laptop() {
  on laptop curl -sS -o /dev/null --rate 10/m "http://www.weir.test/2k?[1-12]" &
  local browser=$!
  at 5;  get laptop https://web.weir.test/20k
  at 12; get laptop -4 http://web.weir.test/slow/3m --max-time 24 || true # gives up before the end
  at 40; on laptop iperf3 -c files.weir.test -u -b 200K -l 1000 -t 12
  at 58; get laptop https://web.weir.test/300k
  wait "$browser"
}

# Works on a file server by ssh, copies a file there, and tries what is not there.
day_of_desktop() {
  remote desktop files.weir.test 'for i in $(seq 14); do date; sleep 5; done' &
  local shell=$!
  at 8;  fails get desktop http://web.weir.test:8080/
  at 9;  fails get desktop http://files.weir.test/
  at 20; on desktop scp -4 -q -F "$tmp/ssh/config" -l 1200 "$tmp/www/2m" "files.weir.test:$tmp/copy" &
  local copy=$!
  at 30; fails get desktop --max-time 16 http://off.weir.test/   # SYNs that nobody answers
  at 50; get desktop -4 http://web.weir.test/300k
  wait "$copy" "$shell"
}

# Prefers IPv6, for its DNS as well.
day_of_phone() {
  local second
  for second in 3 11 19 33 47 61 72; do
    at "$second"
    on phone dig @fd99::2:53 www.weir.test AAAA
    get phone -6 https://www.weir.test/20k
  done
  get phone -6 http://web.weir.test/300k
}

# Asks for its time of day by the same port at both ends of the recording: one flow
# that is silent for a minute. Fetches its firmware by TFTP.
day_of_printer() {
  at 4;  on printer dig -b 10.99.1.30#40123 @10.99.2.53 dns.weir.test
  at 25; get printer tftp://dns.weir.test/firmware
  at 66; on printer dig -b 10.99.1.30#40123 @10.99.2.53 dns.weir.test
}

# Watches the servers.
day_of_monitor() {
  on monitor ping -q -i 1 -w 76 10.99.2.20 &
  on monitor ping -q -i 2 -w 76 fd99::2:53 &
  on monitor ping -q -i 5 -w 60 10.99.2.98 &             # does not answer
  local second
  for ((second = 2; second < 76; second += 6)); do
    at "$second"
    on monitor dig @10.99.2.53 weir.test TXT
    on monitor dig @10.99.2.53 "probe$second.weir.test" A # there is no such name
    get monitor --head http://10.99.2.20/2k
  done
  wait
}

# Prints, from the server room into the office.
day_of_web() {
  at 28; get web -T "$tmp/www/300k" http://printer.weir.test:631/print
  at 62; get web -6 -T "$tmp/www/20k" http://printer.weir.test:631/print
}

# Measures the way to nobody who listens.
day_of_files() {
  at 15; fails on files dig @10.99.1.30 +tries=1 +timeout=1 printer.weir.test
  at 55; on files ping -q -c 3 -s 4000 fd99::1:10
}
