// Package lack is for tests that need what a machine may not have.
package lack

import (
	"os"
	"testing"
)

// Of ends a test for want of something, with a word on how to get it. Where CI is set
// that is a failure: there nothing may be lacking, or a test that is skipped would hide
// what it should show.
func Of(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// Root ends a test that is not run by root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Of(t, "it needs root")
	}
}
