package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"

	"weir/agent"
	"weir/notify"
	"weir/privileges"
)

// reloads reads the configuration again at each SIGHUP, and when its file changes.
// What cannot be changed while the agent runs is said and left as it is.
func reloads(ctx context.Context, cmd *cobra.Command, cfg *config, a *agent.Agent, log *slog.Logger) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	before, err := cfg.live()
	if err != nil {
		return err
	}
	changed := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := watchFile(ctx, cfg.file(), changed); err != nil {
			log.Warn("the configuration is not read again when its file changes, only at SIGHUP", "error", err)
		}
	}()
	defer func() { <-watched }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
		case <-changed:
		}
		_ = notify.Reloading()
		next := config{path: cfg.path}
		var live *liveConfig
		err := next.load(cmd)
		if err == nil {
			live, err = next.live()
		}
		if err == nil && before.hotplug {
			if missing := privileges.Missing(live.need()); len(missing) > 0 {
				err = lacking(missing)
			}
		}
		if err != nil {
			log.Error("the configuration stays as it was", "error", err)
		} else {
			if keys := before.fixed(live); len(keys) > 0 {
				log.Warn("these need a restart to change", "keys", keys)
			}
			if before.hotplug { // else nothing can be opened again
				a.Reload(live.interfaces())
			}
			log.Info("configuration read again")
		}
		_ = notify.Ready()
	}
}

// settled is how long a file has to be left alone before it is read: editors write in
// several steps.
const settled = 200 * time.Millisecond

// watchFile tells of every change of what is in a file, which may be replaced by
// another or be a link that is turned to one. A file that is not there may come.
func watchFile(ctx context.Context, path string, changed chan<- struct{}) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer w.Close()
	// The folder, for a file that is replaced takes its watch with it.
	if err := w.Add(filepath.Dir(path)); err != nil {
		if errors.Is(err, fs.ErrNotExist) && path == systemConfig {
			return nil // there is none, and nobody said that there were
		}
		return fmt.Errorf("watch %s: %w", path, err)
	}
	before, _ := os.ReadFile(path) // none is as good as empty
	look := time.NewTimer(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			return fmt.Errorf("watch %s: %w", path, err)
		case <-w.Events:
			look.Reset(settled)
		case <-look.C:
			now, err := os.ReadFile(path)
			if err != nil || bytes.Equal(now, before) {
				continue
			}
			before = now
			select {
			case changed <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}
}
