package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// child is the process of a server that this process started.
type child struct {
	process *os.Process
	ended   chan struct{}
	exit    error // why it ended, nil for exit status 0; valid once ended is closed
}

// stop ends the child, by force once ctx is done.
func (c *child) stop(ctx context.Context) error {
	if err := c.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.ended:
		return c.exit
	case <-ctx.Done():
		c.process.Kill()
		<-c.ended
		return fmt.Errorf("killed: %w", context.Cause(ctx))
	}
}

// abandon ends a child that did not become a server. What it says no longer
// matters; the time is what a server with a client may need to stop.
func (c *child) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_ = c.stop(ctx)
}

// exitError says how the child ended, even if it was with status 0.
func (c *child) exitError() error {
	if c.exit == nil {
		return errors.New("it ended with exit status 0")
	}
	return c.exit
}
