//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
)

// engine is the loaded ClickHouse library.
type engine struct {
	queryCmdline func(argc int32, argv unsafe.Pointer) uintptr
	resultError  func(result uintptr) string
}

func loadEngine(path string) (*engine, error) {
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load the ClickHouse library: %w: weir-clickhouse fetch --verify checks it", err)
	}
	e := new(engine)
	purego.RegisterLibFunc(&e.queryCmdline, lib, "chdb_query_cmdline")
	purego.RegisterLibFunc(&e.resultError, lib, "chdb_result_error")
	return e, nil
}

// run runs clickhouse-local with args until its queries have ended. A nil error
// does not mean success: the engine reports little of what goes wrong.
func (e *engine) run(args []string) error {
	argv := make([]*byte, len(args)+1) // as C wants it, ended by a null pointer
	var pin runtime.Pinner
	defer pin.Unpin()
	for i, arg := range args {
		p, err := syscall.BytePtrFromString(arg)
		if err != nil {
			return fmt.Errorf("argument %q: %w", arg, err)
		}
		pin.Pin(p)
		argv[i] = p
	}
	pin.Pin(&argv[0])
	result := e.queryCmdline(int32(len(args)), unsafe.Pointer(&argv[0]))
	if result == 0 {
		return errors.New("the ClickHouse library gave no result")
	}
	if msg := e.resultError(result); msg != "" {
		return errors.New(msg)
	}
	return nil
}
