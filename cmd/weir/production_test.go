package main

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestNothingOfTestsInProduction holds that the program has no part of the mocks, and
// that the machine code which walks a ring's blocks calls nothing that could ask
// whether it reads the kernel's memory or a test's.
func TestNothingOfTestsInProduction(t *testing.T) {
	deps, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"weir/capture/mock", "weir/capture/capturetest", "weir/internal/lack", "testing"} {
		for dep := range strings.Lines(string(deps)) {
			if strings.TrimSpace(dep) == p {
				t.Errorf("the program contains %s", p)
			}
		}
	}
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	code, err := exec.Command("go", "tool", "objdump", "-s", `^weir/capture\.\(\*Frames\)\.Describe$`, path).Output()
	if err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(`CALL (\S+)`).FindAllStringSubmatch(string(code), -1)
	if len(calls) == 0 {
		t.Fatalf("no calls in %q", code)
	}
	allowed := regexp.MustCompile(`^(runtime\.|weir/capture\.\(\*frame\)\.describeMore\()`)
	for _, c := range calls {
		if !allowed.MatchString(c[1]) {
			t.Errorf("the walk calls %s", c[1])
		}
	}
}
