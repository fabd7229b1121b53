//go:build linux && amd64

package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"weir/exporter/clickhouse/local"
)

// dataDir is a server's data folder. It belongs to the one who starts the server,
// with the passwords and the configuration in it. Only the folders store and logs
// belong to the user that the server runs as, so that a starter who is root never
// opens a path which another user could have turned into a link.
type dataDir struct {
	path string
	lock *os.File // held until the server has ended
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// The files in a data folder that are not local's.
const (
	configFile = "config.xml"
	usersFile  = "users.xml"
	storeDir   = "store" // ClickHouse's own data folder
	logsDir    = "logs"
)

// openDataDir makes and locks the folder, its passwords and its configuration.
func openDataDir(path string, owner account, memory int64, c *cluster) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	d := &dataDir{path: path}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder: %w: choose another with --data", err)
	}
	if err := d.takeLock(); err != nil {
		return nil, err
	}
	if err := d.prepare(owner, memory, c); err != nil {
		d.lock.Close()
		return nil, err
	}
	return d, nil
}

func (d *dataDir) takeLock() error {
	f, err := os.OpenFile(d.file(local.LockFile), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return fmt.Errorf("open the data folder: %w: it belongs to another user? choose another with --data", err)
	}
	ok, err := local.TryLock(f)
	if err == nil && !ok {
		err = fmt.Errorf("data folder %s is in use by another server%s: use that one, stop it, or choose another folder with --data",
			d.path, describeHolder(f))
	}
	if err == nil {
		err = f.Truncate(0) // what the last server left
	}
	if err != nil {
		f.Close()
		return err
	}
	d.lock = f
	return nil
}

// describeHolder says what is known of the server that holds the lock.
func describeHolder(lock *os.File) string {
	b, err := io.ReadAll(io.LimitReader(lock, 64<<10))
	if err != nil {
		return ""
	}
	st, err := parseState(b)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d at %s)", st.PID, st.Addr)
}

func (d *dataDir) prepare(owner account, memory int64, c *cluster) error {
	password, err := d.password(local.PasswordFile)
	if err != nil {
		return err
	}
	readerPassword, err := d.password(local.ReaderPasswordFile)
	if err != nil {
		return err
	}
	values := settings{
		Logs: d.file(logsDir), UsersFile: d.file(usersFile), Memory: strconv.FormatInt(memory, 10),
		Password: hashPassword(password), ReaderPassword: hashPassword(readerPassword), Cluster: c,
	}
	config, err := expand(serverConfig, values)
	if err != nil {
		return err
	}
	users, err := expand(usersConfig, values)
	if err != nil {
		return err
	}
	if err := writeFile(d.file(configFile), config, 0o640, owner.gid); err != nil {
		return err
	}
	if err := writeFile(d.file(usersFile), users, 0o640, owner.gid); err != nil {
		return err
	}
	for _, name := range []string{storeDir, logsDir} {
		if err := makeOwned(d.file(name), owner); err != nil {
			return err
		}
	}
	return nil
}

// password returns the password in a file of the folder, made at its first use:
// 32 hexadecimal digits of 128 random bits.
func (d *dataDir) password(name string) (string, error) {
	path := d.file(name)
	b, err := os.ReadFile(path)
	if err == nil {
		password := strings.TrimSpace(string(b))
		if password == "" {
			return "", fmt.Errorf("%s is empty: write a password into it, or delete it to have one made", path)
		}
		// Somebody may have loosened it; the file's content is the only secret here.
		if err := os.Chmod(path, 0o600); err != nil {
			return "", fmt.Errorf("protect the password: %w", err)
		}
		return password, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	random := make([]byte, 16)
	rand.Read(random) // never fails (Go 1.24)
	password := hex.EncodeToString(random)
	return password, writeFile(path, []byte(password+"\n"), 0o600, -1)
}

// writeFile replaces a file as a whole, so that a crash leaves the old or the new
// one. gid -1 leaves the group as it comes.
func writeFile(path string, content []byte, mode os.FileMode, gid int) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil && gid != -1 {
		err = f.Chown(-1, gid)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// makeOwned makes a folder for owner. One that is there must be owner's already:
// chown of what other users could have filled with links is not for root to do.
func makeOwned(path string, owner account) error {
	if err := os.Mkdir(path, 0o700); err == nil {
		if err := os.Lchown(path, owner.uid, owner.gid); err != nil {
			return fmt.Errorf("give the data folder to user %s: %w", owner.name, err)
		}
		return nil
	} else if !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the data folder: %w", err)
	}
	st, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if uid := int(st.Sys().(*syscall.Stat_t).Uid); !st.IsDir() || uid != owner.uid {
		return fmt.Errorf("data folder: %s belongs to uid %d, but the server would run as %s (uid %d): "+
			"serve as that user (--user), choose another folder with --data, or chown -R it", path, uid, owner.name, owner.uid)
	}
	return nil
}
