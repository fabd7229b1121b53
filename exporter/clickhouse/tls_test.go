package clickhouse

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
)

// newFront returns the address of a TLS listener before a server, which has none.
func newFront(t *testing.T, to string, config *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				return
			}
			go func() { io.Copy(client, server); client.Close() }()
			go func() { io.Copy(server, client); server.Close() }()
		}
	}()
	return l.Addr().String()
}

func TestTLS(t *testing.T) {
	o := applied(t)
	certificate := httptest.NewTLSServer(nil)
	defer certificate.Close()
	front := o
	front.Addr = []string{newFront(t, o.Addr[0], &tls.Config{Certificates: certificate.TLS.Certificates})}
	front.TLS = func() *tls.Config { return &tls.Config{} }
	if err := Check(t.Context(), front); err == nil || !strings.Contains(err.Error(), "clickhouse.ca_file") {
		t.Errorf("an unknown certificate: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate.Certificate())
	front.TLS = func() *tls.Config { return &tls.Config{RootCAs: pool} }
	send(t, front, SinkOptions{}, batchOf(day, records(1000, day, 1)))
	a := dial(t, o)
	defer a.close()
	if got := a.one(t, "count()", a.table("flows")); got != "1000" {
		t.Errorf("%s rows", got)
	}
	plain := o
	plain.TLS = front.TLS
	if err := Check(t.Context(), plain); err == nil || !strings.Contains(err.Error(), "9440") {
		t.Errorf("TLS spoken to a port that has none: %v", err)
	}
	front.TLS = nil
	if err := Check(t.Context(), front); err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("TLS spoken to in the clear: %v", err)
	}
}

func TestCompression(t *testing.T) {
	o := applied(t)
	sent := map[string]int64{}
	for i, method := range []string{"none", "lz4", "zstd"} {
		b := newBreaker(t, o.Addr[0])
		b.after = 1 << 62
		through := o
		through.Addr, through.Compression = []string{b.Addr().String()}, method
		start := day.AddDate(0, 0, i)
		send(t, through, SinkOptions{}, batchOf(start, records(20_000, start, 1)))
		sent[method] = b.octets.Load()
	}
	if sent["none"] < 2*sent["lz4"] || sent["lz4"] < sent["zstd"] {
		t.Errorf("octets sent: %v", sent)
	}
	a := dial(t, o)
	defer a.close()
	if got := a.one(t, "count()", a.table("flows")); got != "60000" {
		t.Errorf("%s rows", got)
	}
	o.Compression = "gzip"
	if err := Check(t.Context(), o); err == nil || !strings.Contains(err.Error(), "want lz4, zstd or none") {
		t.Error(err)
	}
}
