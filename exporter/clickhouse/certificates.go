package clickhouse

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Certificates secure connections with what is in files. These are read again for each
// new connection, so that what is renewed on disk needs no restart.
type Certificates struct {
	// CA is a file of the certificates (PEM) that a server's has to come from;
	// empty means those that the system trusts.
	CA string
	// Cert and Key are the files (PEM) of the certificate by which the server knows
	// this client, those in between behind it, and of its key. Empty means none.
	Cert, Key string
	// ServerName is the name that a server's certificate has to have; empty means
	// the host of its address.
	ServerName string
	// Report, if not nil, is told why the files cannot be used any more, each reason
	// once in a row. What was read before stays in use: whoever drops privileges
	// may not be able to read a key again.
	Report func(error)

	mu   sync.Mutex
	last *tls.Config // that could be read
	said string
}

// Load reads the files, and says what is wrong with them: what cannot be read, is no
// PEM, does not belong together, or is not valid now.
func (c *Certificates) Load() error {
	config, err := c.read(time.Now())
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = config
	return nil
}

// Config returns what to secure the next connection with. It is not to be changed.
// Load has to have succeeded.
func (c *Certificates) Config() *tls.Config {
	config, err := c.read(time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.last, c.said = config, ""
	case c.Report != nil && c.said != err.Error():
		c.said = err.Error()
		c.Report(fmt.Errorf("the certificates that were read before stay in use: %w", err))
	}
	return c.last
}

func (c *Certificates) read(now time.Time) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("CA certificates: %w", err)
		}
		if config.RootCAs, err = pool(text); err != nil {
			return nil, fmt.Errorf("CA certificates in %s: %w", c.CA, err)
		}
	}
	switch {
	case c.Cert == "" && c.Key == "":
		return config, nil
	case c.Key == "":
		return nil, fmt.Errorf("client certificate %s: there is no key to it", c.Cert)
	case c.Cert == "":
		return nil, fmt.Errorf("key %s: there is no certificate to it", c.Key)
	}
	cert, err := os.ReadFile(c.Cert)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	key, err := os.ReadFile(c.Key)
	if err != nil {
		return nil, fmt.Errorf("key of the client certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("client certificate %s with key %s: %w", c.Cert, c.Key, err)
	}
	switch leaf := pair.Leaf; {
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("client certificate %s has expired, on %s: renew it, or set this host's clock", c.Cert, leaf.NotAfter.UTC().Format(time.DateTime))
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("client certificate %s is not valid yet, but from %s on: set this host's clock", c.Cert, leaf.NotBefore.UTC().Format(time.DateTime))
	}
	// Not Certificates, of which the client sends none if the server names other
	// authorities: then nobody is told what is wrong.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return config, nil
}

// pool is x509's AppendCertsFromPEM, which silently leaves out what it cannot read.
func pool(text []byte) (*x509.CertPool, error) {
	p, n := x509.NewCertPool(), 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a block is of type %q, want CERTIFICATE", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n+1, err)
		}
		p.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, errors.New("there is no certificate (PEM)")
	}
	return p, nil
}
