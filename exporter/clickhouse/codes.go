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
)

// Codes of the server (src/Common/ErrorCodes.cpp). A test asks a server for their names.
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
	codeCannotAllocate    = 173
	codeTooManyQueries    = 202
	codeNoFreeConnection  = 203
	codeSocketTimeout     = 209
	codeNetwork           = 210
	codeNoZooKeeper       = 225
	codeAborted           = 236
	codeMemory            = 241
	codeTableReadOnly     = 242
	codeNoSpace           = 243
	codeTooManyParts      = 252
	codeTooFewReplicas    = 285
	codeUnsatisfiedQuorum = 286
	codeTooManyBytes      = 307
	codeUnknownStatus     = 319
	codeNoCommonType      = 386
	codeCancelled         = 394
	codeTooManyResult     = 396
	codeSettingConstraint = 452
	codeAccessDenied      = 497
	codeAuthentication    = 516
	codeTableRestarts     = 733
	codeServerOverloaded  = 745
	codeTooManyTCP        = 749
	codeKeeper            = 999
)

// retryable reports whether the same batch may succeed a little later: the
// connection broke, or the server said that it was busy, short of memory or going
// down. Whether the server had stored the batch already is then unknown, and does not
// matter, since a batch keeps its deduplication token.
func retryable(err error) bool {
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		switch exception.Code {
		case codeReadAfterEOF, codeCannotReadAll, codeAborted, codeCancelled: // what a server that is being stopped answers
			return true
		case codeTooManyParts, codeTooManyQueries, codeNoFreeConnection, codeSocketTimeout, codeNetwork, codeTableReadOnly, codeKeeper,
			codeTimeout, codeMemory, codeCannotAllocate, codeNoZooKeeper, codeTooFewReplicas, codeUnsatisfiedQuorum, codeUnknownStatus,
			codeTableRestarts, codeServerOverloaded, codeTooManyTCP:
			return true
		}
		return false
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, clickhouse.ErrConnectionClosed)
}

// refusals are the codes that a server answers because of what rows hold: values that
// a column, a constraint of the table's or a view on it does not take. A code that
// can also come of the tables or of the server is not among them: a batch waits in
// vain rather than being set aside for want of a column that somebody will add.
var refusals = map[int32]string{
	6:   "CANNOT_PARSE_TEXT",
	25:  "CANNOT_PARSE_ESCAPE_SEQUENCE",
	26:  "CANNOT_PARSE_QUOTED_STRING",
	27:  "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
	38:  "CANNOT_PARSE_DATE",
	41:  "CANNOT_PARSE_DATETIME",
	69:  "ARGUMENT_OUT_OF_BOUND",
	72:  "CANNOT_PARSE_NUMBER",
	117: "INCORRECT_DATA",
	128: "TOO_LARGE_ARRAY_SIZE",
	131: "TOO_LARGE_STRING_SIZE",
	153: "ILLEGAL_DIVISION",
	190: "SIZES_OF_ARRAYS_DONT_MATCH",
	321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
	349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
	376: "CANNOT_PARSE_UUID",
	395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
	407: "DECIMAL_OVERFLOW",
	441: "CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING",
	467: "CANNOT_PARSE_BOOL",
	469: "VIOLATED_CONSTRAINT",
	632: "UNEXPECTED_DATA_AFTER_PARSED_VALUE",
	675: "CANNOT_PARSE_IPV4",
	676: "CANNOT_PARSE_IPV6",
	691: "UNKNOWN_ELEMENT_OF_ENUM",
}

// Refused reports whether the server refused an insert for what its rows hold: a
// constraint, a view that throws, a value out of range. Sending the same rows again
// cannot help. All other errors are of a state that ends or that somebody will mend:
// the network, rights, a missing table or column, no room.
func Refused(err error) bool {
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
		return false
	}
	_, refused := refusals[exception.Code]
	return refused
}

// hintNoSpace promises nothing about the failed insert, of which some days or the
// table without its roll-up may be stored.
const hintNoSpace = "free space on the server's disk, then send it all again: under the same token nothing counts twice"

// hint says what to do about a code.
func (s *server) hint(code int32, message string) string {
	switch code {
	case codeAuthentication:
		return fmt.Sprintf("check user %q and its password", s.User)
	case codeUnknownDatabase, codeUnknownTable:
		return "create the tables with `weir schema --apply`"
	case codeNoSuchColumn:
		return "see what differs with `weir schema --check`"
	case codeReadOnly, codeAccessDenied, codeSettingConstraint:
		remedy := "give it the right (GRANT)"
		if grant := s.grant(message); code == codeAccessDenied && grant != "" {
			remedy = grant + ";"
		}
		return fmt.Sprintf("user %q may not do this: %s or name another user", s.User, remedy)
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
	case codeTableReadOnly, codeNoZooKeeper, codeKeeper:
		return "the table's replica has lost its Keeper: see system.replicas on the server"
	case codeTooManyQueries, codeNoFreeConnection, codeServerOverloaded, codeTooManyTCP:
		return "the server is busy: try again later"
	case codeCannotWrite:
		if strings.Contains(message, "errno: 28") || strings.Contains(message, "No space left") {
			return hintNoSpace
		}
	}
	if what, refused := refusals[code]; refused {
		return fmt.Sprintf("the rows are refused for what they hold (%s): sending them again does not help; see the table's constraints and the views on it", what)
	}
	return ""
}

// missingGrant finds the rights in a message of the server's, and on what they are.
// Columns in parentheses may follow each right.
var missingGrant = regexp.MustCompile("necessary to have (?:the )?grant ([A-Z][A-Za-z0-9_, ()`]*?) ON ([A-Za-z0-9_.*`-]{1,300})")

// columnsOf are those of a right.
var columnsOf = regexp.MustCompile(`\([^()]*\)`)

// grant returns the statement that gives the user what a message says it lacks, "" if
// the message does not say. A right on some columns is asked for on all of them, for
// the next version of the tables has others.
func (s *server) grant(message string) string {
	m := missingGrant.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	rights := strings.TrimSpace(columnsOf.ReplaceAllString(m[1], ""))
	if rights == "" || len(rights) > 100 || strings.ContainsAny(rights, "()`") {
		return ""
	}
	return s.grantStatement(rights, strings.TrimRight(m[2], "."))
}

// grantStatement returns the statement that gives the user a right.
func (s *server) grantStatement(right, on string) string {
	user := s.User
	if !plainName.MatchString(user) {
		user = quote(user)
	}
	return fmt.Sprintf("GRANT %s ON %s TO %s", right, on, user)
}

// plainName needs no quotes in SQL.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
