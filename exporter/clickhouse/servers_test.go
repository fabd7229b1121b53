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

	"weir/exporter/clickhouse/local"
	"weir/exporter/clickhouse/local/localtest"
)

// user is somebody whom a server knows besides its own two, with the password "secret".
type user struct {
	name   string
	grants []string
	memory int // octets that a statement may take; 0 for no bound
}

// newServers returns servers that were not started yet: one, or the shards of a cluster "two".
func newServers(t *testing.T, n int, users ...user) []*ownServer {
	t.Helper()
	dir := localtest.Folder(t)
	var addrs, servers = []string{}, []*ownServer{}
	for i := range n {
		// Other programs may take the port until the server does; it would say so.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
		servers = append(servers, &ownServer{localtest.NewOwn(t, local.Options{DataDir: filepath.Join(dir, fmt.Sprint(i)), TCPPort: l.Addr().(*net.TCPAddr).Port, Memory: "1GiB"})})
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("a secret that is long enough\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var text, profiles strings.Builder
	for _, u := range users {
		fmt.Fprintf(&profiles, "<%s><max_memory_usage>%d</max_memory_usage></%[1]s>", u.name, u.memory)
		fmt.Fprintf(&text, "<%s><password_sha256_hex>%x</password_sha256_hex><networks><ip>127.0.0.0/8</ip></networks><profile>%[1]s</profile><quota>default</quota><grants>",
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
			s.Options.Cluster, s.Options.ClusterSecret = "two="+strings.Join(addrs, ","), secret
		}
		// ClickHouse merges what lies in users.d into users.xml.
		if err := os.MkdirAll(filepath.Join(s.Options.DataDir, "users.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.Options.DataDir, "users.d", "test.xml"), []byte("<clickhouse><profiles>"+profiles.String()+"</profiles><users>"+text.String()+"</users></clickhouse>"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return servers
}
