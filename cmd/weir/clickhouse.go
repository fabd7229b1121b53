package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"weir/exporter/clickhouse"
	"weir/exporter/clickhouse/local"
)

// addr returns the configured servers.
func (c *config) addr() []string { return c.list("clickhouse.addr") }

// clickhouse returns how to reach the server: the one that is configured, or the
// local one that is running.
func (c *config) clickhouse() (clickhouse.Options, error) {
	o := clickhouse.Options{
		Addr:        c.addr(),
		Database:    c.v.GetString("clickhouse.database"),
		User:        c.v.GetString("clickhouse.user"),
		Password:    c.v.GetString("clickhouse.password"),
		Compression: c.v.GetString("clickhouse.compression"),
	}
	var err error
	if o.Timeout, err = c.duration("clickhouse.timeout", nil); err != nil {
		return o, usage("%w", err)
	}
	if o.DialTimeout, err = c.duration("clickhouse.dial_timeout", nil); err != nil {
		return o, usage("%w", err)
	}
	if err := c.secure(&o); err != nil {
		return o, err
	}
	if len(o.Addr) == 0 {
		s, err := local.Running(c.v.GetString("clickhouse.data"))
		if err != nil {
			return o, err
		}
		if s == nil {
			return o, errors.New("no ClickHouse: none is configured (--clickhouse HOST:PORT, or clickhouse.addr) and no local one is running (start it with: weir-clickhouse serve)")
		}
		o.Addr, o.User, o.Password = []string{s.Addr}, s.User, s.Password
		return o, o.Validate()
	}
	for key, to := range map[string]*string{"user": &o.User, "password": &o.Password} {
		if path := c.v.GetString("clickhouse." + key + "_file"); path != "" {
			text, err := os.ReadFile(path)
			if err != nil {
				return o, fmt.Errorf("read ClickHouse %s: %w", key, err)
			}
			*to = strings.TrimRight(string(text), "\r\n")
		}
	}
	return o, o.Validate()
}

// secure sets TLS.
func (c *config) secure(o *clickhouse.Options) error {
	on, err := c.boolean("clickhouse.tls")
	if err != nil {
		return err
	}
	get := func(key string) string { return c.v.GetString("clickhouse." + key) }
	if !on {
		for _, key := range []string{"ca_file", "cert_file", "key_file", "server_name"} {
			if get(key) != "" {
				return usage("clickhouse.%s is set, but clickhouse.tls is not: set clickhouse.tls to true (--tls), or leave clickhouse.%s out", key, key)
			}
		}
		return nil
	}
	switch {
	case len(o.Addr) == 0:
		return usage("clickhouse.tls: the local server has no TLS: name one that has (clickhouse.addr, --clickhouse HOST:PORT), or leave clickhouse.tls out")
	case get("cert_file") != "" && get("key_file") == "":
		return usage("clickhouse.cert_file is set, but clickhouse.key_file is not: name the file with the certificate's key")
	case get("key_file") != "" && get("cert_file") == "":
		return usage("clickhouse.key_file is set, but clickhouse.cert_file is not: name the file with the key's certificate")
	}
	certificates := &clickhouse.Certificates{CA: get("ca_file"), Cert: get("cert_file"), Key: get("key_file"), ServerName: get("server_name"), Report: c.warn}
	if err := certificates.Load(); err != nil {
		return fmt.Errorf("clickhouse.tls: %w", err)
	}
	o.TLS = certificates.Config
	return nil
}

// fileKey returns the key that names a file.
func (c *config) fileKey(path string) string {
	for key := range defaults {
		if strings.HasPrefix(key, "clickhouse.") && strings.HasSuffix(key, "_file") && c.v.GetString(key) == path {
			for flag, of := range flagKeys {
				if of == key {
					return key + " (--" + flag + ")"
				}
			}
			return key
		}
	}
	return "clickhouse"
}

// bare returns the servers that are spoken to in the clear over a network.
func bare(o clickhouse.Options) (servers []string) {
	if o.TLS != nil {
		return nil
	}
	for _, a := range o.Addr {
		host, _, err := net.SplitHostPort(a)
		if err != nil || host == "localhost" {
			continue
		}
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Unmap().IsLoopback() {
			servers = append(servers, a)
		}
	}
	return servers
}

// servers returns all settings that lead to ClickHouse, to be compared.
func (c *config) servers() (all []any) {
	var keys []string
	for key := range defaults {
		if strings.HasPrefix(key, "clickhouse.") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if _, list := defaults[key].([]string); list {
			all = append(all, c.list(key))
		} else {
			all = append(all, c.v.GetString(key))
		}
	}
	return all
}
