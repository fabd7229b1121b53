package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weir/exporter"
	"weir/exporter/clickhouse"
	"weir/exporter/spool"
	"weir/exporter/table"
)

// statusReply is what the agent's socket answers to /status.
type statusReply struct {
	Version    string            `json:"version"`
	PID        int               `json:"pid"`
	Host       string            `json:"host"`
	Output     string            `json:"output"`
	Since      time.Time         `json:"since"`
	Interval   float64           `json:"interval_seconds"`
	Behind     bool              `json:"behind"` // the output takes longer than an interval
	Exported   uint64            `json:"exported_records"`
	Flows      uint64            `json:"flows"`
	Rotation   float64           `json:"longest_rotation_seconds"`
	Interfaces []statusInterface `json:"interfaces"`
	Forward    *statusForward    `json:"clickhouse,omitempty"` // nil if records go elsewhere
}

// statusForward is how records get to ClickHouse.
type statusForward struct {
	Acknowledged uint64            `json:"acknowledged_records"`
	Error        string            `json:"error,omitempty"` // why records wait
	Since        *time.Time        `json:"since,omitempty"`
	Refused      uint64            `json:"refused_batches"`
	Spool        string            `json:"spool"` // its folder, empty for memory alone
	SpoolError   string            `json:"spool_error,omitempty"`
	Records      int               `json:"waiting_records"`
	Waited       float64           `json:"waiting_seconds"`
	Bytes        int64             `json:"spool_bytes"`
	MaxBytes     int64             `json:"spool_max_bytes"`
	Memory       int64             `json:"memory_bytes"`
	Aside        int               `json:"aside_files"`
	Lost         map[string]uint64 `json:"lost_records"` // by reason
}

type statusInterface struct {
	Name    string    `json:"name"`
	Error   string    `json:"error,omitempty"` // why it is not captured on
	Since   time.Time `json:"since"`
	Rings   int       `json:"rings"`
	Packets uint64    `json:"packets"` // up to now
	Drops   uint64    `json:"drops"`   // up to now
	// Up to the last interval.
	Octets       uint64 `json:"bytes"`
	NotIP        uint64 `json:"not_ip"`
	DecodeErrors uint64 `json:"decode_errors"`
	Overflow     uint64 `json:"overflow"`
	Records      uint64 `json:"records"`
	Keys         int    `json:"table_flows"` // in the last interval
	Most         int    `json:"table_flows_max"`
}

func (ad *admin) status() statusReply {
	s := ad.agent.Status()
	r := statusReply{Version: versionString(), PID: os.Getpid(), Host: ad.config.host, Output: ad.config.output, Since: s.Since,
		Interval: ad.config.interval.Seconds(), Behind: s.Behind, Exported: s.Exported, Flows: s.Flows, Rotation: s.Rotations.Max.Seconds(),
		Interfaces: []statusInterface{}}
	for _, i := range s.Interfaces {
		si := statusInterface{Name: i.Name, Since: i.Since, Rings: i.Rings, Packets: i.Stats.Packets, Drops: i.Stats.Drops, Octets: i.Ledger.Octets,
			NotIP: i.Ledger.NotIP(), DecodeErrors: i.Ledger.DecodeErrors(), Overflow: i.Ledger.Overflow, Records: i.Ledger.Records, Keys: i.Flows, Most: i.Most}
		if i.Err != nil {
			si.Error = i.Err.Error()
		}
		r.Interfaces = append(r.Interfaces, si)
	}
	if ad.forward != nil {
		r.Forward = forwardStatus(ad.forward.Stats())
	}
	return r
}

func forwardStatus(s clickhouse.ForwarderStats) *statusForward {
	f := &statusForward{Acknowledged: s.Acknowledged, Refused: s.Refused, Spool: s.Spool.Folder, Records: s.Spool.Records,
		Waited: s.Spool.Waited().Seconds(), Bytes: s.Spool.Bytes, MaxBytes: s.Spool.MaxBytes, Memory: s.Spool.Memory, Aside: s.Spool.Aside, Lost: map[string]uint64{}}
	if s.Err != nil {
		f.Error, f.Since = s.Err.Error(), &s.Since
	}
	if s.Spool.Err != nil {
		f.SpoolError = s.Spool.Err.Error()
	}
	for reason, n := range s.Spool.GivenUp {
		if n > 0 {
			f.Lost[spool.Reason(reason).String()] = n
		}
	}
	if s.Spool.Lost > 0 {
		f.Lost["memory"] = s.Spool.Lost
	}
	return f
}

// state says in words where records are.
func (f *statusForward) state() string {
	where := "memory alone, the spool is off"
	if f.Spool != "" {
		where = fmt.Sprintf("%s, %s of %s", exporter.Escape(f.Spool, true), table.AppendBytes(nil, uint64(f.Bytes)), table.AppendBytes(nil, uint64(f.MaxBytes)))
	}
	s := fmt.Sprintf("acknowledged %d  waiting %d", f.Acknowledged, f.Records)
	if f.Records > 0 {
		s += fmt.Sprintf(" for %s", table.AppendDuration(nil, time.Duration(f.Waited*1e9)))
	}
	s += "  in " + where
	if f.Aside > 0 {
		s += fmt.Sprintf("  set aside %d", f.Aside)
	}
	for _, reason := range slices.Sorted(maps.Keys(f.Lost)) {
		s += fmt.Sprintf("  lost %d (%s)", f.Lost[reason], reason)
	}
	return s
}

func newStatusCommand(cfg *config) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how the running agent is",
		Long: `Status asks the agent that runs on this host, over its local socket, what it captures on and
what became of the packets.

Exit status: 0 all is well, 1 there is no agent, or it is in trouble: nothing is captured, or records wait.`,
		Example: `  weir status
  weir status --output json | jq '.interfaces[] | select(.drops > 0)'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usage("--output: %q is neither table nor json", output)
			}
			body, err := askAgent(cmd.Context(), cfg.socket(), "/status", nil)
			if err != nil {
				return err
			}
			defer body.Close()
			text, err := io.ReadAll(io.LimitReader(body, 16<<20))
			if err != nil {
				return fmt.Errorf("read the agent's answer: %w", err)
			}
			var s statusReply
			if err := json.Unmarshal(text, &s); err != nil {
				return fmt.Errorf("read the agent's answer: %w", err)
			}
			if output == "json" {
				_, err = cmd.OutOrStdout().Write(text)
			} else {
				err = s.write(cmd.OutOrStdout())
			}
			if trouble := s.trouble(); trouble != "" && err == nil {
				return errors.New(trouble)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// trouble says what is wrong, "" if nothing is.
func (s *statusReply) trouble() string {
	captured := 0
	for _, i := range s.Interfaces {
		if i.Error == "" {
			captured++
		}
	}
	switch {
	case captured == 0:
		return "no interface is captured on"
	case s.Behind:
		return "records wait: the output takes longer than an interval"
	case s.Forward == nil:
		return ""
	case s.Forward.SpoolError != "":
		return "the spool's disk fails: what waits is in memory: " + s.Forward.SpoolError
	case s.Forward.Error != "" && s.Forward.Since != nil && time.Since(*s.Forward.Since) > max(time.Duration(3*s.Interval*1e9), 10*time.Second):
		return "records wait: " + s.Forward.Error
	}
	return ""
}

func (s *statusReply) write(w io.Writer) error {
	output := s.Output
	if s.Behind {
		output += ", behind"
	}
	fmt.Fprintf(w, "weir %s  host %s  running %s  process %d\n", s.Version, exporter.Escape(s.Host, true), table.AppendDuration(nil, time.Since(s.Since)), s.PID)
	fmt.Fprintf(w, "output %s  records %d  flows %d  longest rotation %v\n", output, s.Exported, s.Flows, time.Duration(s.Rotation*1e9).Round(100*time.Nanosecond))
	if s.Forward != nil {
		fmt.Fprintf(w, "ClickHouse  %s\n", s.Forward.state())
	}
	fmt.Fprintln(w)
	t := table.New(table.ScreenOf(os.Stdout),
		table.Column{Title: "interface", Kind: table.Text}, table.Column{Title: "rings", Kind: table.Count},
		table.Column{Title: "packets", Kind: table.Count}, table.Column{Title: "drops", Kind: table.Count}, table.Column{Title: "bytes", Kind: table.Bytes},
		table.Column{Title: "not IP", Kind: table.Count}, table.Column{Title: "errors", Kind: table.Count}, table.Column{Title: "flows", Kind: table.Count},
		table.Column{Title: "overflow", Kind: table.Count}, table.Column{Title: "state", Kind: table.Text})
	for _, i := range s.Interfaces {
		t.Row(i.Name, uint64(i.Rings), i.Packets, i.Drops, i.Octets, i.NotIP, i.DecodeErrors, uint64(i.Keys), i.Overflow, cmp.Or(i.Error, "capturing"))
	}
	_, err := t.WriteTo(w)
	return err
}

// socket returns the path of the agent's socket.
func (c *config) socket() string { return cmp.Or(c.v.GetString("admin.socket"), defaultSocket()) }

// askAgent asks the agent that listens on a socket. The caller closes the answer.
func askAgent(ctx context.Context, socket, path string, query url.Values) (io.ReadCloser, error) {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weir"+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no agent listens on %s: start one with weir run, or name its socket with admin.socket", socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: permission denied: ask as its owner: root, if root has started the agent", socket)
	case err != nil:
		return nil, fmt.Errorf("ask the agent on %s: %w", socket, err)
	}
	if answer.StatusCode != http.StatusOK {
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4096)) // what there is of it
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return answer.Body, nil
}
