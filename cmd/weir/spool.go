package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"weir/exporter/clickhouse"
	"weir/exporter/spool"
	"weir/privileges"
)

// forwardConfig is how records get to ClickHouse, checked.
type forwardConfig struct {
	spool   spool.Options
	inserts int
}

// policies are the values of spool.full.
var policies = map[string]spool.Policy{"oldest": spool.Oldest, "newest": spool.Newest, "wait": spool.Wait}

// forward checks the keys of spool, and those of clickhouse about inserts.
func (c *config) forward() (f forwardConfig, err error) {
	on, err := c.boolean("spool.enabled")
	if err != nil {
		return f, err
	}
	o := &f.spool
	if on {
		if o.Folder = c.v.GetString("spool.folder"); o.Folder == "" {
			if o.Folder, err = defaultSpool(); err != nil {
				return f, err
			}
		}
		if o.Folder, err = filepath.Abs(o.Folder); err != nil {
			return f, usage("spool.folder: %w", err)
		}
	}
	var ok bool
	if o.Full, ok = policies[c.v.GetString("spool.full")]; !ok {
		return f, usage("spool.full: %q is not one of oldest, newest, wait", c.v.GetString("spool.full"))
	}
	for key, to := range map[string]*int64{"spool.max_size": &o.MaxBytes, "spool.memory": &o.Memory} {
		size, err := parseSize(c.v.GetString(key))
		if err != nil {
			return f, usage("%s: %w", key, err)
		}
		if size < 1<<20 {
			return f, usage("%s: %s is less than 1MiB", key, c.v.GetString(key))
		}
		*to = int64(size)
	}
	for key, to := range map[string]*time.Duration{"spool.max_age": &o.MaxAge, "clickhouse.batch_age": &o.BatchAge} {
		if *to, err = c.duration(key, nil); err != nil {
			return f, usage("%w", err)
		}
	}
	const leastRows, mostInserts = 1000, 16
	if o.BatchRows = c.v.GetInt("clickhouse.batch_rows"); o.BatchRows < leastRows || o.BatchRows > spool.InsertRows {
		return f, usage("clickhouse.batch_rows: %d is not within %d and %d", o.BatchRows, leastRows, spool.InsertRows)
	}
	if f.inserts = c.v.GetInt("clickhouse.inserts"); f.inserts < 1 || f.inserts > mostInserts {
		return f, usage("clickhouse.inserts: %d is not within 1 and %d", f.inserts, mostInserts)
	}
	return f, nil
}

// defaultSpool is where records wait if nobody says where: the service manager's folder
// for what a service keeps, or what stands for it.
func defaultSpool() (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); filepath.IsAbs(dir) { // systemd.exec(5)
		return filepath.Join(dir, "spool"), nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/weir/spool", nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("where records wait: %w; set spool.folder", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "weir", "spool"), nil
}

// forwarder opens the spool and begins to send what is in it. The folder will belong to
// the user that the process becomes.
func (l *liveConfig) forwarder(o clickhouse.Options, schema *clickhouse.SchemaOptions, log *slog.Logger) (*clickhouse.Forwarder, error) {
	so := l.forward.spool
	so.Log = log
	if so.Folder == "" {
		log.Warn("the spool is off: records that wait for ClickHouse are in memory alone, and a crash loses them")
		if dir, err := defaultSpool(); err == nil {
			if found, err := spool.Look(dir); err == nil && found.Flushes > 0 {
				log.Warn("records from before wait in the spool, and are not sent while it is off", "spool", dir, "flushes", found.Flushes)
			}
		}
	} else if err := os.MkdirAll(filepath.Dir(so.Folder), 0o755); err != nil {
		log.Error("the spool cannot be made", "error", err) // and the spool says what that means
	}
	s, err := spool.Open(so)
	if err != nil {
		return nil, fmt.Errorf("%w: end it, or set spool.folder to another one", err)
	}
	if err := l.ownSpool(so.Folder); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if found := s.Stats(); found.Records > 0 {
		log.Info("records from before wait in the spool", "records", found.Records, "since", found.Oldest.UTC().Format(time.RFC3339), "spool", so.Folder)
	}
	return clickhouse.NewForwarder(o, s, clickhouse.ForwarderOptions{
		Version: versionString(), Run: time.Now(), BootID: bootID(), Schema: schema, Inserts: l.forward.inserts, Log: log,
	})
}

// ownSpool gives the spool to the user that root becomes.
func (l *liveConfig) ownSpool(dir string) error {
	if os.Geteuid() != 0 || l.staysRoot() || dir == "" {
		return nil
	}
	uid, gid, err := privileges.IDs(l.user)
	if err != nil {
		return err
	}
	return spool.Chown(dir, uid, gid)
}
