package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// captures is the folder of the captures that the project made.
const captures = "../../testdata"

// programDir holds the program while the tests run.
var programDir string

func removeProgram() {
	if programDir != "" {
		os.RemoveAll(programDir)
	}
}

// buildProgram builds weir as users do, once.
var buildProgram = sync.OnceValues(func() (string, error) {
	var err error
	if programDir, err = os.MkdirTemp("", "weir-test-"); err != nil {
		return "", err
	}
	path := filepath.Join(programDir, "weir")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // or weir run cannot change user
	out, err := build.CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// result is what a run of the program left.
type result struct {
	code           int
	stdout, stderr string
}

// weir runs the program.
func weir(t testing.TB, stdin io.Reader, args ...string) result {
	t.Helper()
	return weirEnv(t, nil, stdin, args...)
}

func weirEnv(t testing.TB, env []string, stdin io.Reader, args ...string) result {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	cmd.Env = append(os.Environ(), env...)
	err = cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
