package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"weir/agent"
	"weir/exporter/clickhouse"
)

// admin is where a running agent is looked at: over HTTP by machines, and over a local
// socket, which shows who talks to whom, by those who may open it.
type admin struct {
	agent   *agent.Agent
	forward *clickhouse.Forwarder // nil if records go elsewhere
	config  *liveConfig
	log     *slog.Logger
	servers []*http.Server
	listens []net.Listener

	watchers atomic.Int32 // requests of /top
}

// defaultSocket is where weir status and weir top look for the agent.
func defaultSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
		return filepath.Join(dir, "weir.sock")
	}
	return "/run/weir/weir.sock"
}

// listen opens the agent's sockets. An address that another process has is no reason
// not to capture, unless somebody asked for that one.
func (l *liveConfig) listen(a *agent.Agent, forward *clickhouse.Forwarder, log *slog.Logger) (*admin, error) {
	ad := &admin{agent: a, forward: forward, config: l, log: log}
	if l.listenOn != "" {
		ln, err := net.Listen("tcp", l.listenOn)
		if err != nil && l.listenOn != defaults["admin.listen"] {
			return nil, fmt.Errorf("admin.listen: %w", err)
		}
		if err != nil {
			log.Warn("no metrics over HTTP; admin.listen sets another address", "error", err)
		} else {
			ad.add(ln, ad.public())
			if !l.pprof { // whose profiles take as long as is asked for
				ad.servers[len(ad.servers)-1].WriteTimeout = 30 * time.Second
			}
		}
	}
	path := l.socket
	if path == "" {
		path = defaultSocket()
	}
	ln, err := listenUnix(path)
	if err != nil && l.socket != "" {
		ad.close()
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	if err != nil {
		log.Warn("no socket for weir status and weir top; admin.socket sets another path", "error", err)
	} else {
		ad.add(ln, ad.local())
	}
	return ad, nil
}

// listenUnix listens on a socket that its owner alone may open. One that was left over
// by a process that has ended is replaced.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	switch c, err := net.DialTimeout("unix", path, time.Second); {
	case err == nil:
		c.Close()
		return nil, fmt.Errorf("another process listens on %s", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	// Not open to others for a moment either.
	before := unix.Umask(0o177)
	defer unix.Umask(before)
	return net.Listen("unix", path)
}

func (ad *admin) add(ln net.Listener, h http.Handler) {
	ad.listens = append(ad.listens, ln)
	ad.servers = append(ad.servers, &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(ad.log.Handler(), slog.LevelDebug)})
}

// public is what anybody who reaches the address may see: sums, no addresses.
func (ad *admin) public() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(ad.registry(), promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorLog: slog.NewLogLogger(ad.log.Handler(), slog.LevelWarn)}))
	ad.health(mux)
	if ad.config.pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func (ad *admin) health(mux *http.ServeMux) {
	say := func(w http.ResponseWriter, ok bool, why string) {
		if !ok {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		say(w, ad.agent.Alive(), "the agent does not turn its tables over")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s := ad.agent.Status()
		for _, i := range s.Interfaces {
			if i.Err == nil {
				say(w, !s.Behind, "records wait for the sink")
				return
			}
		}
		say(w, false, "no interface is captured on")
	})
}

// local is what the local socket serves.
func (ad *admin) local() http.Handler {
	mux := http.NewServeMux()
	ad.health(mux)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(ad.status()) // whoever asked is gone
	})
	mux.HandleFunc("GET /top", ad.top)
	return mux
}

func (ad *admin) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &metrics{ad.agent, ad.forward})
	return r
}

// serve answers until ctx is done.
func (ad *admin) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx) // a server that fails ends the others
	for i, s := range ad.servers {
		s.BaseContext = func(net.Listener) context.Context { return ctx }
		group.Go(func() error {
			if err := s.Serve(ad.listens[i]); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	<-ctx.Done()
	ad.close()
	return group.Wait()
}

func (ad *admin) close() {
	for _, s := range ad.servers {
		s.Close()
	}
	for _, ln := range ad.listens {
		ln.Close()
	}
}
