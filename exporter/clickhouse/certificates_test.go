package clickhouse

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := new(authority)
	c, key := a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.key = key
	var err error
	if a.cert, err = x509.ParseCertificate(c); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue signs a certificate, by itself if the authority has none yet.
func (a *authority) issue(t *testing.T, template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	by, signer := a.cert, a.key
	if by == nil {
		by, signer = template, key
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) server(t *testing.T, name string) tls.Certificate {
	t.Helper()
	cert, key := a.issue(t, &x509.Certificate{DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	return tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}
}

// client makes files of a certificate that is valid for that long from then on.
func (a *authority) client(t *testing.T, certFile, keyFile string, from time.Time, valid time.Duration) {
	t.Helper()
	cert, key := a.issue(t, &x509.Certificate{NotBefore: from, NotAfter: from.Add(valid), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", cert)
	writePEM(t, keyFile, "PRIVATE KEY", der)
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func writePEM(t *testing.T, path, typ string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A server that wants a client's certificate, and both sides' certificates renewed
// by another authority while the sink is open.
func TestCertificatesAreRenewed(t *testing.T) {
	o := applied(t)
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var now *authority
	var connections atomic.Int32
	config := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		connections.Add(1)
		return &tls.Config{Certificates: []tls.Certificate{now.server(t, "db.example")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: now.pool()}, nil
	}}
	renew := func() {
		now = newAuthority(t, rand.Text())
		writePEM(t, ca, "CERTIFICATE", now.cert.Raw)
		now.client(t, cert, key, time.Now().Add(-time.Minute), time.Hour)
	}
	renew()
	var reports []error
	files := &Certificates{CA: ca, Cert: cert, Key: key, Report: func(err error) { reports = append(reports, err) }}
	if err := files.Load(); err != nil {
		t.Fatal(err)
	}
	o.Addr, o.TLS = []string{newFront(t, o.Addr[0], config)}, files.Config
	sink := newSink(t, o, SinkOptions{})
	flush := func(i int) {
		t.Helper()
		write(t, t.Context(), sink, i)
		if err := sink.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	flush(0)
	before := connections.Load()
	flush(1)
	if n := connections.Load(); n != before {
		t.Errorf("a new connection for a new insert: %d, %d before", n, before)
	}
	renew()
	sink.interrupt() // new connections from here on
	flush(2)
	// The key cannot be read any more, as by a user that privileges were dropped to:
	// what was read stays.
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		sink.interrupt()
		flush(3 + i)
	}
	if len(reports) != 1 || !strings.Contains(reports[0].Error(), key) || !strings.Contains(reports[0].Error(), "stay in use") {
		t.Errorf("reports: %v", reports)
	}
	if err := sink.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Without a certificate, and with another name, there is no connection.
	for want, files := range map[string]*Certificates{"clickhouse.cert_file": {CA: ca}, "clickhouse.server_name": {CA: ca, ServerName: "other.example"}} {
		if err := files.Load(); err != nil {
			t.Fatal(err)
		}
		o.TLS = files.Config
		if err := Check(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	a := newAuthority(t, "old")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, ca, "CERTIFICATE", a.cert.Raw)
	files := &Certificates{CA: ca}
	if err := files.Load(); err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.TLS = files.Config
	for version, well := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true} {
		o.Addr = []string{newFront(t, o.Addr[0], &tls.Config{Certificates: []tls.Certificate{a.server(t, "x")}, MinVersion: tls.VersionTLS10, MaxVersion: version})}
		s, err := connect(t.Context(), o)
		if (err == nil) != well {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			s.close()
		}
		o.Addr = options(t).Addr
	}
}

func TestCertificatesSayWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	a := newAuthority(t, "a")
	now := time.Now()
	a.client(t, file("cert"), file("key"), now.Add(-time.Minute), time.Hour)
	a.client(t, file("other-cert"), file("other-key"), now.Add(-time.Minute), time.Hour)
	a.client(t, file("old-cert"), file("old-key"), now.Add(-2*time.Hour), time.Hour)
	a.client(t, file("early-cert"), file("early-key"), now.Add(time.Hour), time.Hour)
	for name, text := range map[string]string{"empty": "", "text": "no PEM", "damaged": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret, err := os.ReadFile(file("key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		*Certificates
		wants []string // none if all is well
	}{
		{&Certificates{}, nil},
		{&Certificates{CA: file("cert"), Cert: file("cert"), Key: file("key")}, nil},
		{&Certificates{CA: file("nowhere")}, []string{"CA certificates", file("nowhere"), "no such file"}},
		{&Certificates{CA: dir}, []string{"CA certificates", dir}},
		{&Certificates{CA: file("empty")}, []string{file("empty"), "there is no certificate"}},
		{&Certificates{CA: file("text")}, []string{file("text"), "there is no certificate"}},
		{&Certificates{CA: file("damaged")}, []string{file("damaged"), "certificate 1"}},
		{&Certificates{CA: file("key")}, []string{file("key"), "PRIVATE KEY", "want CERTIFICATE"}},
		{&Certificates{Cert: file("cert")}, []string{file("cert"), "no key"}},
		{&Certificates{Key: file("key")}, []string{file("key"), "no certificate"}},
		{&Certificates{Cert: file("nowhere"), Key: file("key")}, []string{"client certificate", file("nowhere")}},
		{&Certificates{Cert: file("cert"), Key: file("nowhere")}, []string{"key of the client certificate", file("nowhere")}},
		{&Certificates{Cert: file("cert"), Key: file("other-key")}, []string{file("cert"), file("other-key"), "does not match"}},
		{&Certificates{Cert: file("key"), Key: file("cert")}, []string{file("cert"), file("key")}},
		{&Certificates{Cert: file("text"), Key: file("key")}, []string{file("text")}},
		{&Certificates{Cert: file("old-cert"), Key: file("old-key")}, []string{file("old-cert"), "has expired", "renew it"}},
		{&Certificates{Cert: file("early-cert"), Key: file("early-key")}, []string{file("early-cert"), "not valid yet", "clock"}},
	} {
		err := c.Load()
		if (err == nil) != (c.wants == nil) {
			t.Errorf("%v: %v", c.wants, err)
			continue
		}
		for _, want := range c.wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in %q", want, err)
			}
		}
		if err != nil && strings.Contains(err.Error(), strings.Split(string(secret), "\n")[1]) {
			t.Errorf("the key is in %q", err)
		}
	}
}
