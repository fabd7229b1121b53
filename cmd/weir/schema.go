package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"weir/exporter/clickhouse"
)

// newSchemaCommand returns `weir schema`; server says which ClickHouse it is about,
// and database what its database is called, where no server is needed.
func newSchemaCommand(server func() (clickhouse.Options, error), database func() string) *cobra.Command {
	var apply, check, show bool
	var ttl string
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print, apply or check the ClickHouse tables",
		Long: `Schema prints the statements that make the tables, for an administrator to run; or
runs them; or checks what is there.

--apply makes what is missing and may be run any number of times. Where a table of
the same name has other columns it changes nothing and says what differs.`,
		Example: `  weir schema | less
  weir schema --apply --clickhouse db.example.net:9000 --user weir --password-file pw
  weir schema --apply --ttl 90d
  weir schema --check && echo fine`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var so clickhouse.SchemaOptions
			if ttl != "" && ttl != "0" {
				d, err := parseAgo(ttl)
				if err != nil || d < time.Hour {
					return usage("--ttl: %q is not a time of an hour or more, such as 90d", ttl)
				}
				so.TTL = d
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
	fs.StringVar(&ttl, "ttl", "", "let the server delete flows this `TIME` after they were captured, such as 90d, in tables that are made (default never)")
	cmd.MarkFlagsMutuallyExclusive("print", "apply", "check")
	return cmd
}
