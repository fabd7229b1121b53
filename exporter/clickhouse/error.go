package clickhouse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/ClickHouse/clickhouse-go/v2"

	"weir/exporter"
)

// Error is a statement that failed.
type Error struct {
	Server string // its address; all addresses if the error is not of one of them
	Op     string // what was tried
	Table  string // on which table; may be empty
	// Code is the server's exception code (ErrorCodes.cpp in its sources), 0 if
	// the error is not the server's.
	Code int32
	// Message is the cause in one line, escaped and bounded.
	Message string
	Hint    string // what to do; may be empty
	cause   error
}

// Error returns all of it in one line.
func (e *Error) Error() string {
	var sb strings.Builder
	fmt.Fprintf(&sb, "ClickHouse %s: %s", e.Server, e.Op)
	if e.Table != "" {
		sb.WriteString(" " + e.Table)
	}
	sb.WriteString(": " + e.Message)
	if e.Code != 0 {
		fmt.Fprintf(&sb, " (code %d)", e.Code)
	}
	if e.Hint != "" {
		sb.WriteString("; " + e.Hint)
	}
	return sb.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Statement reports whether the server did not understand the statement, or found
// no sense in it.
func (e *Error) Statement() bool {
	switch e.Code {
	case codeSyntax, codeUnknownIdentifier, codeUnknownFunction, codeArguments, codeArgumentType, codeTypeMismatch, codeNoCommonType:
		return true
	}
	return false
}

// maxMessage bounds what is shown of a server's message.
const maxMessage = 600

// explain turns a driver's error into an [*Error]; nil stays nil, and what is
// one already stays as it is.
func (s *server) explain(op, name string, err error) error {
	var ours *Error
	if err == nil || errors.As(err, &ours) {
		return err
	}
	e := &Error{Server: s.Server(), Op: op, cause: err}
	if name != "" {
		e.Table = exporter.Escape(s.Database+"."+name, false)
	}
	if of := new(replicaError); errors.As(err, &of) {
		e.Server = of.addr
	}
	message := err.Error()
	var exception *clickhouse.Exception
	var dns *net.DNSError
	switch {
	case errors.As(err, &exception):
		e.Code, message = exception.Code, exception.Message
		e.Hint = s.hint(e.Code, message)
	case errors.Is(err, context.Canceled):
		message = "interrupted"
	case tlsHint(err) != "":
		e.Hint = tlsHint(err)
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		message = "no answer in time"
		e.Hint = "see whether the server is overloaded, or raise the timeout"
		if op == "connect" {
			e.Hint = "see whether the server runs and a firewall lets the native protocol through"
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		message = "connection refused"
		e.Hint = "no server listens there: start one (`weir-clickhouse serve` runs a local one), or name another address"
	case errors.As(err, &dns):
		message = "cannot find host " + dns.Name
		e.Hint = "check the address"
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		message = "the server closed the connection"
		if op == "connect" {
			e.Hint = "is this the native protocol's port (9000, with TLS 9440), and does it want TLS?"
		}
	}
	e.Message = oneLine(message)
	return e
}

// tlsHint says what to do about a connection that could not be secured, "" if that is
// not what failed.
func tlsHint(err error) string {
	var network *net.OpError
	switch {
	case errors.As(err, new(tls.RecordHeaderError)):
		return "this port does not speak TLS: the one that does is 9440, as a rule"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "name the CA that the server's certificate comes from: clickhouse.ca_file"
	case errors.As(err, new(x509.HostnameError)):
		return "name what the certificate names: in the address, or as clickhouse.server_name"
	case errors.As(err, new(x509.CertificateInvalidError)):
		return "renew the server's certificate, or set this host's clock"
	case errors.As(err, &network) && network.Op == "remote error": // an alert of TLS
		return "the server has ended TLS: if it asks for a client certificate, name one that it takes (clickhouse.cert_file, clickhouse.key_file)"
	}
	return ""
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// tails are where messages of the server's turn from what is wrong to the whole
// statement, all that could have been said instead, and its insides.
var tails = []string{" in scope SELECT ", ". Expected one of", ": while executing ", ": While executing ", "Stack trace:"}

// oneLine cuts a message of the server's to a line that can be shown.
func oneLine(s string) string {
	for _, tail := range tails {
		if i := strings.Index(s, tail); i > 0 {
			s = s[:i]
		}
	}
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxMessage {
		s = s[:maxMessage] + "..."
	}
	return exporter.Escape(strings.ToValidUTF8(s, "?"), false)
}
