package clickhouse

import (
	"errors"
	"fmt"
	"strings"
)

// maxExpression bounds an expression, in bytes.
const maxExpression = 10_000

// Expression checks that s can be one expression in SQL and nothing more, and
// returns it in parentheses that it cannot get out of: every bracket and quote
// in it is closed in it, and there are no comments, no statement's end and no
// subquery, through which it could read other tables or call table functions
// such as url and file.
//
// Whether it makes sense the server says. Quotes are read as the server's lexer
// reads them (src/Parsers/Lexer.cpp); forms that need not be understood here are
// refused: heredocs, hexadecimal strings, typographic quotes.
func Expression(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", errors.New("the expression is empty")
	}
	if len(s) > maxExpression {
		return "", fmt.Errorf("the expression has %d bytes; %d are allowed", len(s), maxExpression)
	}
	var open []byte // closing brackets that are awaited
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '\'' || c == '"' || c == '`':
			if i > 0 && isWord(s[i-1]) {
				return "", fmt.Errorf("%c right after a word, at byte %d: put a space or an operator between", c, i)
			}
			end := quoteEnd(s, i)
			if end < 0 {
				return "", fmt.Errorf("%c at byte %d is not closed", c, i)
			}
			i = end
			continue
		case c == '(' || c == '[' || c == '{':
			open = append(open, map[byte]byte{'(': ')', '[': ']', '{': '}'}[c])
		case c == ')' || c == ']' || c == '}':
			if len(open) == 0 || open[len(open)-1] != c {
				return "", fmt.Errorf("%c at byte %d closes nothing", c, i)
			}
			open = open[:len(open)-1]
		case c == ';':
			return "", fmt.Errorf("; at byte %d: one expression is wanted, not statements", i)
		case c == '#' || c == '$' || c == '\\' || c == '@':
			return "", fmt.Errorf("%c at byte %d has no place in an expression", c, i)
		case strings.HasPrefix(s[i:], "--") || strings.HasPrefix(s[i:], "/*") || strings.HasPrefix(s[i:], "//"):
			return "", fmt.Errorf("comment at byte %d: write - - for two minus signs", i)
		case c >= 0x80 || c < ' ' && c != '\t' && c != '\n' && c != '\r':
			return "", fmt.Errorf("byte 0x%02x at %d is allowed in quotes only", c, i)
		case isWord(c):
			end := i
			for end < len(s) && isWord(s[end]) {
				end++
			}
			if strings.EqualFold(s[i:end], "select") {
				return "", fmt.Errorf("SELECT at byte %d: subqueries are not allowed here; ask the server with clickhouse-client", i)
			}
			i = end
			continue
		}
		i++
	}
	if len(open) > 0 {
		return "", fmt.Errorf("%c is missing at the end", open[len(open)-1])
	}
	return "(" + s + ")", nil
}

// quoteEnd returns the index after the quote that closes the one at s[i], -1 if
// none does. A backslash escapes, and a doubled quote stands for itself.
func quoteEnd(s string, i int) int {
	q := s[i]
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case q:
			if i+1 < len(s) && s[i+1] == q {
				i++
				continue
			}
			return i + 1
		}
	}
	return -1
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}
