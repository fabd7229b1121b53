package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/exporter/clickhouse"
)

// newSchemaCommand returns `weir schema`; server says which ClickHouse it is about,
// and database and cluster what these are called, where no server is needed.
func newSchemaCommand(server func() (clickhouse.Options, error), database, cluster func() string) *cobra.Command {
	var apply, check, show, unreplicated bool
	var ttl string
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print, apply or check the ClickHouse tables",
		Long: `Schema prints the statements that make the tables, for an administrator to run; or
runs them; or checks what is there.

--apply makes what is missing, brings older tables to this version, and may be run any
number of times. Where a table of the same name has other columns it changes nothing
and says what differs.

--ttl sets how long rows are kept, of tables that exist, too: one time for flows and its
roll-ups, or one for each table, such as flows=30d,flows_1m=90d,flows_1h=2y,ledger=2y; 0 keeps
them for ever. Without it all stays as it is.

With --cluster the tables are replicated and spread over the shards of a cluster that the
servers know (remote_servers), which takes a Keeper and the macros shard and replica;
without a Keeper, --unreplicated makes plain tables, on each server that it is run against.`,
		Example: `  weir schema | less
  weir schema --apply --clickhouse db.example.net:9000 --user weir --password-file pw
  weir schema --apply --ttl 90d,ledger=2y
  weir schema --cluster main | less
  weir schema --check && echo fine`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			so := clickhouse.SchemaOptions{Cluster: cluster(), Unreplicated: unreplicated}
			var err error
			if so.TTL, err = parseTTL(ttl); err != nil {
				return usage("--ttl: %w", err)
			}
			if err := so.Validate(); err != nil {
				return usage("%w", err)
			}
			if !apply && !check {
				_, err := io.WriteString(cmd.OutOrStdout(), clickhouse.Print(database(), so))
				return err
			}
			o, err := server()
			if err != nil {
				return err
			}
			if apply {
				err = clickhouse.Apply(cmd.Context(), o, so)
			} else {
				err = clickhouse.Check(cmd.Context(), o)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s has schema version %d\n", o, clickhouse.Version)
			return err
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&show, "print", false, "print the statements (the default)")
	fs.BoolVar(&apply, "apply", false, "create what is missing")
	fs.BoolVar(&check, "check", false, "check that the tables are as they should be")
	fs.StringVar(&ttl, "ttl", "", "let the server delete rows this `TIME` after they were captured: 90d, or flows=30d,ledger=2y; 0 for never (default: as it is)")
	fs.String("cluster", "", "spread the tables over the shards of this `CLUSTER`, replicated")
	fs.BoolVar(&unreplicated, "unreplicated", false, "for a cluster without Keeper: plain tables, on the server that this is run against")
	cmd.MarkFlagsMutuallyExclusive("print", "apply", "check")
	return cmd
}

// parseTTL reads how long rows are kept: a time alone is for flows and its roll-ups.
func parseTTL(s string) (map[string]time.Duration, error) {
	if s == "" {
		return nil, nil
	}
	ttls := map[string]time.Duration{}
	for i, part := range strings.Split(s, ",") {
		names := []string{"flows", "flows_1m", "flows_1h"}
		name, text, named := strings.Cut(part, "=")
		if named {
			names = []string{name}
		} else if text = part; i > 0 {
			return nil, fmt.Errorf("%q names no table: say TABLE=TIME; a time alone comes first", part)
		}
		d, err := parseAgo(text)
		if text == "0" {
			d, err = 0, nil
		}
		if err != nil || d != 0 && d < time.Hour {
			return nil, fmt.Errorf("%q is neither 0 nor a time of an hour or more, such as 90d", text)
		}
		for _, n := range names {
			ttls[n] = d
		}
	}
	return ttls, nil
}
