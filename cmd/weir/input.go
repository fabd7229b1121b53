package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"weir/capture"
	"weir/capture/pcap"
	"weir/exporter"
	"weir/flows"
)

// checkFiles sees that the files are there and are captures, so that a wrong name
// at the end of a long list is found before the first record is out. Standard
// input cannot be looked at twice.
func checkFiles(files []string) error {
	stdin := 0
	for _, path := range files {
		if path == "-" {
			if stdin++; stdin > 1 {
				return usage("standard input is named twice")
			}
			if term.IsTerminal(int(os.Stdin.Fd())) {
				return usage("standard input is a terminal: pipe a capture into it")
			}
			continue
		}
		info, err := os.Stat(path)
		if p := new(fs.PathError); errors.As(err, &p) {
			return fmt.Errorf("open %s: %w", path, p.Err)
		}
		if info.IsDir() {
			return fmt.Errorf("%s is a folder: name the capture files in it", path)
		}
		if !info.Mode().IsRegular() {
			continue // a pipe or a device yields its bytes only once
		}
		r, err := pcap.Open(path)
		var damaged *pcap.DamagedError
		switch {
		case errors.Is(err, pcap.ErrNotCapture):
			return &exitError{code: exitNotCapture, err: err}
		case errors.As(err, &damaged):
			continue // to be said when its turn comes
		case err != nil:
			return err
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// input opens one file after the other.
type input struct {
	files    []string
	iface    string
	progress *progress
	links    []string // interfaces of unsupported link types
	open     *pcap.Reader
	path     string
	restore  func() // what was changed for reading the open file
}

// next returns the next file's source and the name of interfaces that it leaves
// unnamed; a nil source after the last file. Once ctx is done, reading the source
// fails, if it would wait for somebody.
func (in *input) next(ctx context.Context) (capture.Source, string, error) {
	in.leave()
	if len(in.files) == 0 {
		return nil, "", nil
	}
	in.path, in.files = in.files[0], in.files[1:]
	r, err := in.openPath(ctx)
	if err != nil {
		return nil, "", err
	}
	in.open = r
	in.progress.file(in.path, r)
	name := in.iface
	if name == "" {
		if name = filepath.Base(in.path); in.path == "-" {
			name = "stdin"
		}
	}
	return r, name, nil
}

func (in *input) openPath(ctx context.Context) (*pcap.Reader, error) {
	if in.path == "-" {
		stdin, restore, err := interruptible(ctx, os.Stdin)
		if err != nil {
			return nil, fmt.Errorf("open standard input: %w", err)
		}
		in.restore = restore
		return pcap.NewReader(stdin, "standard input")
	}
	if info, err := os.Stat(in.path); err == nil && !info.Mode().IsRegular() {
		f, err := os.Open(in.path)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() {
			_ = f.SetReadDeadline(time.Unix(1, 0)) // fails only where nobody has to wait
		})
		in.restore = func() {
			stop()
			f.Close()
		}
		return pcap.NewReader(f, in.path)
	}
	return pcap.Open(in.path)
}

// interruptible returns a pipe such that reading from it fails once ctx is done. Of
// other files it returns the file itself, they do not make anybody wait. restore
// undoes what it did to the file.
func interruptible(ctx context.Context, f *os.File) (pipe *os.File, restore func(), err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) == 0 {
		return f, func() {}, nil
	}
	// Only a file that does not block is watched by the runtime's poller, and only
	// such a one has deadlines. Whoever else has the pipe sees it change.
	fd := int(f.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, nil, err
	}
	pipe = os.NewFile(uintptr(fd), f.Name())
	stop := context.AfterFunc(ctx, func() {
		_ = pipe.SetReadDeadline(time.Unix(1, 0)) // fails only where the pipe is closed
	})
	return pipe, func() {
		stop()
		_ = unix.SetNonblock(fd, false)
	}, nil
}

// leave takes note of what is to be said of the file that was read.
func (in *input) leave() {
	if in.restore != nil {
		in.restore()
		in.restore = nil
	}
	if in.open == nil {
		return
	}
	for i, l := range in.open.Interfaces() {
		if !l.LinkType.Supported() && len(in.links) < 8 {
			in.links = append(in.links, fmt.Sprintf("%s: interface %d (%s): link type %s is not supported",
				in.path, i, exporter.Escape(l.Name, true), l.LinkType))
		}
	}
	in.open = nil
}

// unsupported returns what is to be said of packets that nobody can decode.
func (in *input) unsupported(m *metering) []string {
	in.leave()
	if m.total.Causes[flows.ErrorLinkType] == 0 {
		return nil
	}
	return in.links
}
