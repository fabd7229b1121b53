//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
)

// cluster is a set of servers that tables can be spread over: each is a shard.
//
// They know each other by a secret, and one that has a user's question asks the
// others as that user. So whoever has the secret is every user of all of them.
type cluster struct {
	Name   string
	Secret string
	Shards []shard
}

type shard struct {
	Host string
	Port uint16
}

// clusterName is what may be the name of an element of XML, and nothing else.
var clusterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,99}$`)

// parseCluster reads NAME=HOST:PORT,HOST:PORT and the file with the secret. An empty text
// is no cluster.
func parseCluster(text, secretFile string) (*cluster, error) {
	if text == "" {
		if secretFile != "" {
			return nil, fmt.Errorf("--cluster-secret is for --cluster: %w", errUsage)
		}
		return nil, nil
	}
	name, list, ok := strings.Cut(text, "=")
	if !ok || !clusterName.MatchString(name) {
		return nil, fmt.Errorf("--cluster %q: want NAME=HOST:PORT,HOST:PORT: %w", text, errUsage)
	}
	c := &cluster{Name: name}
	for _, s := range strings.Split(list, ",") {
		// Without TLS, what goes between the servers can be read on the way.
		addr, err := netip.ParseAddrPort(s)
		if err != nil || !addr.Addr().IsLoopback() || addr.Addr().Zone() != "" || addr.Port() == 0 {
			return nil, fmt.Errorf("--cluster %q: %q is no loopback address with a port, such as 127.0.0.1:9000: %w", text, s, errUsage)
		}
		c.Shards = append(c.Shards, shard{addr.Addr().String(), addr.Port()})
	}
	if secretFile == "" {
		return nil, fmt.Errorf("--cluster: name a file with the secret that the servers share: --cluster-secret FILE: %w", errUsage)
	}
	b, err := os.ReadFile(secretFile)
	if err != nil {
		return nil, fmt.Errorf("--cluster-secret: %w", err)
	}
	if c.Secret = strings.TrimSpace(string(b)); len(c.Secret) < 16 {
		return nil, errors.New("--cluster-secret: less than 16 characters: whoever guesses it is every user of all servers")
	}
	return c, nil
}
