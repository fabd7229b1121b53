//go:build linux && amd64

package main

import (
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseCluster(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("<&>0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parseCluster("two=127.0.0.1:9000,[::1]:9001", secret)
	if err != nil || c.Name != "two" || len(c.Shards) != 2 || c.Shards[1] != (shard{"::1", 9001}) || c.Secret != "<&>0123456789abcdef" {
		t.Fatalf("%+v, %v", c, err)
	}
	text, err := expand(serverConfig, settings{Cluster: c})
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Secret string   `xml:"remote_servers>two>secret"`
		Ports  []string `xml:"remote_servers>two>shard>replica>port"`
	}
	if err := xml.Unmarshal(text, &config); err != nil || config.Secret != c.Secret || strings.Join(config.Ports, " ") != "9000 9001" {
		t.Errorf("%+v, %v in\n%s", config, err, text)
	}
	if c, err := parseCluster("", ""); c != nil || err != nil {
		t.Errorf("no cluster: %v, %v", c, err)
	}
	without, err := expand(usersConfig, settings{})
	if err != nil || strings.Contains(string(without), "REMOTE") {
		t.Errorf("a server alone gives rights to reach others: %v", err)
	}
	for _, wrong := range []string{"two", "=127.0.0.1:9000", "a<b=127.0.0.1:9000", "two=", "two=192.0.2.1:9000", "two=localhost:9000", "two=127.0.0.1:0", "two=127.0.0.1:9000,"} {
		if _, err := parseCluster(wrong, secret); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"", short, short + "-missing"} {
		if _, err := parseCluster("two=127.0.0.1:9000", file); err == nil {
			t.Errorf("secret of %q was taken", file)
		}
	}
	if _, err := parseCluster("", secret); err == nil {
		t.Error("a secret without a cluster was taken")
	}
}
