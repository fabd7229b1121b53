//go:build linux && amd64

package clickhouse

import (
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/exporter/clickhouse/local"
	"weir/exporter/clickhouse/local/localtest"
)

// ownServer is a server of a test's own.
type ownServer struct {
	*local.Server
	options local.Options
}

func (s *ownServer) start(t *testing.T) {
	t.Helper()
	var err error
	if s.Server, err = local.Start(t.Context(), s.options); err != nil {
		t.Fatal(err)
	}
}

func (s *ownServer) stop(t *testing.T) {
	t.Helper()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// as returns options to speak to the server as one of its users.
func (s *ownServer) as(user, password, database string) Options {
	return Options{Addr: []string{s.Addr}, User: user, Password: password, Database: database, Timeout: 30 * time.Second}
}

func (s *ownServer) admin(database string) Options { return s.as(s.User, s.Password, database) }

// ownFolder is a folder that the user a server runs as can reach, as not every one of
// t.TempDir can be.
func ownFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-clickhouse-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// user is somebody whom a server knows besides its own two, with the password "secret".
type user struct {
	name   string
	grants []string
}

// newServers returns servers that were not started yet: one, or the shards of a cluster "two".
func newServers(t *testing.T, n int, users ...user) []*ownServer {
	t.Helper()
	dir := ownFolder(t)
	var addrs, servers = []string{}, []*ownServer{}
	for i := range n {
		// Other programs may take the port until the server does; it would say so.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
		servers = append(servers, &ownServer{options: local.Options{Binary: localtest.Binary(t), DataDir: filepath.Join(dir, fmt.Sprint(i)),
			TCPPort: l.Addr().(*net.TCPAddr).Port, Memory: "1GiB", NoProgress: true, Stderr: os.Stderr}})
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("a secret that is long enough\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, u := range users {
		fmt.Fprintf(&text, "<%s><password_sha256_hex>%x</password_sha256_hex><networks><ip>127.0.0.0/8</ip></networks><profile>default</profile><quota>default</quota><grants>",
			u.name, sha256.Sum256([]byte("secret")))
		for _, g := range u.grants {
			text.WriteString("<query>")
			if err := xml.EscapeText(&text, []byte(g)); err != nil {
				t.Fatal(err)
			}
			text.WriteString("</query>")
		}
		fmt.Fprintf(&text, "</grants></%s>", u.name)
	}
	for _, s := range servers {
		if n > 1 {
			s.options.Cluster, s.options.ClusterSecret = "two="+strings.Join(addrs, ","), secret
		}
		// ClickHouse merges what lies in users.d into users.xml.
		if err := os.MkdirAll(filepath.Join(s.options.DataDir, "users.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.options.DataDir, "users.d", "test.xml"), []byte("<clickhouse><users>"+text.String()+"</users></clickhouse>"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, s := range servers {
			if s.Server != nil {
				s.Stop(t.Context()) // a second time, or after the test has failed
			}
		}
	})
	return servers
}
