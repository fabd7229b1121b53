package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Found is what is in a spool's folder.
type Found struct {
	Flushes int       // that wait
	Aside   int       // files that are set aside
	Bytes   int64     // of all of them on disk
	Oldest  time.Time // when the oldest flush was written; zero if there is none
}

// Look looks into a folder, which a process may be using, and changes nothing.
func Look(dir string) (found Found, err error) {
	names, err := ours(dir)
	if err != nil {
		return found, err
	}
	for _, name := range names {
		info, err := os.Lstat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) { // it has just been sent
			continue
		}
		if err != nil {
			return found, err
		}
		_, waits := sequenceOf(name, flushEnding)
		switch {
		case waits:
			found.Flushes++
			if found.Oldest.IsZero() || info.ModTime().Before(found.Oldest) {
				found.Oldest = info.ModTime()
			}
		case filepath.Dir(name) == aside:
			found.Aside++
		default:
			continue
		}
		found.Bytes += onDisk(info.Size())
	}
	return found, nil
}

// Chown gives a spool's folder, and what it holds, to a user and a group. It refuses a
// folder that holds anything else: that is somebody's, and no spool.
func Chown(dir string, uid, gid int) error {
	names, err := ours(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Lchown(filepath.Join(dir, name), uid, gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// ours lists a folder and what is in it. It is an error if something is not a spool's.
func ours(dir string) (names []string, err error) {
	names = []string{"."}
	for _, in := range []string{".", aside} {
		entries, err := os.ReadDir(filepath.Join(dir, in))
		if errors.Is(err, fs.ErrNotExist) && in == aside {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !isOurs(e.Name()) {
				return nil, fmt.Errorf("%s holds %q, which is none of a spool's files: name a folder of its own", dir, e.Name())
			}
			names = append(names, filepath.Join(in, e.Name()))
		}
	}
	return names, nil
}

// isOurs reports whether a file of a spool may have that name.
func isOurs(name string) bool {
	if name == lockName || name == idName || name == idName+tmpEnding || name == aside {
		return true
	}
	endings := []string{flushEnding, lastEnding, tmpEnding}
	for why := range numReasons {
		endings = append(endings, "."+why.String())
	}
	return slices.ContainsFunc(endings, func(ending string) bool {
		_, ok := sequenceOf(name, ending)
		return ok
	})
}
