package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"weir/exporter/spool"
	"weir/exporter/table"
	"weir/privileges"
)

// spool looks at where records wait.
func (c *check) spool() {
	const what = "spool"
	if c.live.output != "clickhouse" {
		return
	}
	o := c.live.forward.spool
	if o.Folder == "" {
		c.add(stateWarning, what, "set spool.enabled to true", "it is off: a crash loses the records that wait for ClickHouse")
		return
	}
	// What is not there yet is made in the nearest folder that is.
	dir, made := o.Folder, false
	for {
		_, err := os.Stat(dir)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			c.add(stateWarning, what, "name another folder: spool.folder (--spool)", "%v", err)
			return
		}
		dir, made = filepath.Dir(dir), true
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		c.add(stateWarning, what, "name another folder: spool.folder (--spool)", "%s: %v", dir, err)
		return
	}
	if disk.Flags&unix.ST_RDONLY != 0 {
		c.add(stateWarning, what, "mount it for writing, or name another folder: spool.folder (--spool)", "%s is on a read-only disk", o.Folder)
		return
	}
	if err := c.mayWrite(dir, made); err != nil {
		c.add(stateWarning, what, "give the folder to the user that weir run becomes, or name another one: spool.folder (--spool)", "%v", err)
		return
	}
	free := int64(disk.Bavail) * disk.Bsize
	waits, err := spool.Look(o.Folder)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		c.add(stateWarning, what, "run weir check as the user that weir run becomes, or as root", "what is in it cannot be seen: %v", err)
		return
	case waits.Aside > 0:
		c.add(stateWarning, what, "look at them, and remove them", "%d files are set aside in %s", waits.Aside, filepath.Join(o.Folder, "aside"))
	}
	if free < o.MaxBytes-waits.Bytes {
		c.add(stateWarning, what, "free space on the disk, or lower spool.max_size", "%s has room for %s, spool.max_size is %s",
			o.Folder, table.AppendBytes(nil, uint64(free)), table.AppendBytes(nil, uint64(o.MaxBytes)))
		return
	}
	text := fmt.Sprintf("%s, up to %s", o.Folder, table.AppendBytes(nil, uint64(o.MaxBytes)))
	if waits.Flushes > 0 {
		text += fmt.Sprintf("; %d flushes wait, the oldest for %s", waits.Flushes, table.AppendDuration(nil, time.Since(waits.Oldest)))
	}
	c.ok(what, "%s", text)
}

// mayWrite returns nil if weir run may write to a folder, whoever asks. What root has to
// make first, it gives to the user that it becomes.
func (c *check) mayWrite(dir string, made bool) error {
	if os.Geteuid() != 0 {
		if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		return nil
	}
	if made || c.live.staysRoot() {
		return nil
	}
	if _, _, err := privileges.IDs(c.live.user); err != nil {
		return err
	}
	_, err := spool.Look(dir)
	return err
}
