package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"

	"github.com/ClickHouse/clickhouse-go/v2"

	"weir/exporter"
)

// Error is a statement that failed.
type Error struct {
	Server string // addresses
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

// Codes of the server (src/Common/ErrorCodes.cpp).
const (
	codeNoSuchColumn      = 16
	codeReadAfterEOF      = 32
	codeCannotReadAll     = 33
	codeArguments         = 42
	codeArgumentType      = 43
	codeUnknownFunction   = 46
	codeUnknownIdentifier = 47
	codeTypeMismatch      = 53
	codeUnknownTable      = 60
	codeSyntax            = 62
	codeCannotWrite       = 75
	codeUnknownDatabase   = 81
	codeTooManyRows       = 158
	codeTimeout           = 159
	codeTooSlow           = 160
	codeReadOnly          = 164
	codeNoFreeConnection  = 203
	codeTooManyQueries    = 202
	codeSocketTimeout     = 209
	codeNetwork           = 210
	codeNoCommonType      = 386
	codeMemory            = 241
	codeTableReadOnly     = 242
	codeNoSpace           = 243
	codeAborted           = 236
	codeTooManyParts      = 252
	codeTooManyBytes      = 307
	codeCancelled         = 394
	codeTooManyResult     = 396
	codeConstraint        = 452
	codeAccessDenied      = 497
	codeAuthentication    = 516
	codeKeeper            = 999
)

// hintNoSpace promises nothing about the failed insert, of which some days or the
// table without its roll-up may be stored.
const hintNoSpace = "free space on the server's disk, then send it all again: under the same token nothing counts twice"

// lackingGrant is what the server says of a right that the user has not: which, and on what
// (AccessControl, ContextAccess.cpp in its sources). columnLists are what it says besides.
var (
	lackingGrant = regexp.MustCompile("necessary to have the grant ([A-Z][A-Za-z0-9_, ()]*?)(?: for at least one column)? ON ([A-Za-z0-9_.*`-]*[A-Za-z0-9_*`-])")
	columnLists  = regexp.MustCompile(`\([^()]*\)`)
)

// hint says what to do about a code.
func (s *server) hint(code int32, message string) string {
	switch code {
	case codeAuthentication:
		return fmt.Sprintf("check user %q and its password", s.User)
	case codeUnknownDatabase, codeUnknownTable:
		return "create the tables with `weir schema --apply`"
	case codeNoSuchColumn:
		return "see what differs with `weir schema --check`"
	case codeAccessDenied:
		// Of a right on some columns the name is enough: the server takes the whole.
		if m := lackingGrant.FindStringSubmatch(message); m != nil {
			return "an administrator gives the right with: " + exporter.Escape(s.grant(columnLists.ReplaceAllString(m[1], ""), m[2]), false)
		}
		return fmt.Sprintf("user %q may not do this: give it the right (GRANT) or name another user", s.User)
	case codeReadOnly, codeConstraint:
		return fmt.Sprintf("user %q may not do this: give it the right (GRANT) or name another user", s.User)
	case codeMemory:
		return "the server is short of memory: raise max_memory_usage or max_server_memory_usage, or ask for less at a time"
	case codeNoSpace:
		return hintNoSpace
	case codeTooManyParts:
		return "the server merges more slowly than batches arrive: send larger batches, or fewer"
	case codeTimeout, codeTooSlow:
		return "ask for a shorter time, or raise the time limit"
	case codeTooManyRows, codeTooManyBytes, codeTooManyResult:
		return "ask for less"
	case codeTableReadOnly, codeKeeper:
		return "the table's replica has lost its Keeper: see system.replicas on the server"
	case codeTooManyQueries, codeNoFreeConnection:
		return "the server is busy: try again later"
	case codeCannotWrite:
		if strings.Contains(message, "errno: 28") || strings.Contains(message, "No space left") {
			return hintNoSpace
		}
	}
	return ""
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
	message := err.Error()
	var exception *clickhouse.Exception
	var dns *net.DNSError
	switch {
	case errors.As(err, &exception):
		e.Code, message = exception.Code, exception.Message
		e.Hint = s.hint(e.Code, message)
	case errors.Is(err, context.Canceled):
		message = "interrupted"
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

// retryable reports whether the same batch may succeed a little later: the
// connection broke, or the server said that it was busy or going down. Whether the server had
// stored the batch already is then unknown, and does not matter, since a batch
// keeps its deduplication token.
func retryable(err error) bool {
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		switch exception.Code {
		case codeReadAfterEOF, codeCannotReadAll, codeAborted, codeCancelled: // what a server that is being stopped answers
			return true
		case codeTooManyParts, codeTooManyQueries, codeNoFreeConnection, codeSocketTimeout, codeNetwork, codeTableReadOnly, codeKeeper:
			return true
		}
		return false
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, clickhouse.ErrConnectionClosed)
}
