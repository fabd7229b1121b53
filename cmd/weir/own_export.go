package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"weir/flows"
)

// resolveTimeout bounds the look-up of a server's name at the start.
const resolveTimeout = 5 * time.Second

// ownExport returns a function that tells the flows that carry the agent's own records:
// all TCP to or from one of the servers' addresses and the port, whoever speaks there.
// Names are looked up once.
func ownExport(ctx context.Context, servers []string) (func(*flows.Record) bool, error) {
	ctx, stop := context.WithTimeout(ctx, resolveTimeout)
	defer stop()
	own := map[netip.AddrPort]bool{}
	for _, s := range servers {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return nil, fmt.Errorf("flows.own_export: %w", err)
		}
		number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
		if err != nil {
			return nil, fmt.Errorf("flows.own_export: %w", err)
		}
		addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, fmt.Errorf("flows.own_export: %w", err)
		}
		for _, a := range addresses {
			own[netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(number))] = true
		}
	}
	const tcp = 6
	return func(r *flows.Record) bool {
		return r.Key.Proto() == tcp && (own[netip.AddrPortFrom(r.Key.Dst(), r.Key.DstPort())] || own[netip.AddrPortFrom(r.Key.Src(), r.Key.SrcPort())])
	}, nil
}
