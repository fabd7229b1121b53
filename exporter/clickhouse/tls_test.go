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

// The local server has no TLS listener; a front made of crypto/tls serves.
func TestTLS(t *testing.T) {
	o := applied(t)
	certificate := httptest.NewTLSServer(nil)
	defer certificate.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificate.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := o.Addr[0]
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
	front := o
	front.Addr = []string{l.Addr().String()}
	front.TLS = func() *tls.Config { return &tls.Config{} }
	if err := Check(t.Context(), front); err == nil || !strings.Contains(err.Error(), "certificate") {
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
	front.TLS = nil
	if err := Check(t.Context(), front); err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("TLS spoken to in the clear: %v", err)
	}
}
