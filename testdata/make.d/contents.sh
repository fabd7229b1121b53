# The table of contents in README.md, as capinfos and tshark see the files.

# contents writes README.md anew, with the table between its two markers.
contents() {
  local file name what
  {
    sed '/^<!-- contents -->$/q' "$here/README.md"
    echo
    echo "| file | octets | packets | seconds | link type | protocols, in packets |"
    echo "|---|--:|--:|--:|---|---|"
    for file in "$out"/*.pcap*; do
      [[ $file == *.pcap || $file == *.pcapng ]] || continue
      name=${file##*/}
      echo "| $name | $(stat -c %s "$file") | $(info "$file" -c) | $(info "$file" -u) | $(info "$file" -E) | $(protocols "$file") |"
    done
    for file in "$out"/*.gz "$out"/*.zst; do
      echo "| ${file##*/} | $(stat -c %s "$file") | as web.pcap | | | |"
    done
    echo
    sed -n '/^<!-- end of contents -->$/,$p' "$here/README.md"
  } >"$out/README.md"
}

# info FILE FLAG prints one figure of capinfos. On a damaged file it prints it and fails.
info() { { capinfos -r -T -m -M "$2" "$1" 2>/dev/null || true; } | perl -ne 's/^.*?,//; print tr/"\n//dr'; }

# protocols FILE prints the protocol hierarchy, the same protocol counted once a packet wherever it lies.
protocols() {
  { tshark -n --disable-protocol jxta -r "$1" -T fields -e frame.protocols 2>/dev/null || true; } | perl -ne '
    chomp; my %seen; $n{$_}++ for grep { !$seen{$_}++ } grep { !/^(ethertype|x509.*|pkix.*|data.*|media|urlencoded.*)$/ } split /:/;
    END { print join ", ", map { "$_ $n{$_}" } sort { $n{$b} <=> $n{$a} || $a cmp $b } keys %n }'
}
