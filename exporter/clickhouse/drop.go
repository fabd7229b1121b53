package clickhouse

import (
	"context"
	"errors"
)

// Drop removes the database and every table in it, without asking. It is no
// error if there is none.
func Drop(ctx context.Context, o Options) error {
	s, err := connect(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(s.exec(ctx, "drop database "+s.Database, "", "DROP DATABASE IF EXISTS "+quote(s.Database)+" SYNC"), s.close())
}
