package load

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// sequenceBatch is how many sequences one statement sets or reads.
const sequenceBatch = 500

// sequences sets all sequences and reads them back.
func (w *worker) sequences(ctx context.Context, all []repo.Sequence) error {
	for batch := range slices.Chunk(all, sequenceBatch) {
		var set, get []string
		for i, s := range batch {
			name := relation{s.Schema, s.Name}.quoted()
			set = append(set, fmt.Sprintf("pg_catalog.setval(%s::pg_catalog.regclass, %d, %t)", sqltext.Literal(pg.Name(name)), s.LastValue, s.IsCalled))
			get = append(get, fmt.Sprintf("SELECT %d, last_value, is_called FROM %s", i, name))
		}
		if err := w.conn.Exec(ctx, "SELECT "+strings.Join(set, ", ")); err != nil {
			return err
		}
		var i int
		var last int64
		var called bool
		n := 0
		err := w.conn.Each(ctx, strings.Join(get, " UNION ALL "), nil, []any{&i, &last, &called}, func() error {
			n++
			if s := batch[i]; s.LastValue != last || s.IsCalled != called {
				return fmt.Errorf("sequence %s differs from the snapshot's: expected %d (called %t), found %d (%t): %w",
					relation{s.Schema, s.Name}, s.LastValue, s.IsCalled, last, called, errs.Corrupt)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if n != len(batch) {
			return fmt.Errorf("read %d of %d sequences back: %w", n, len(batch), errs.Corrupt)
		}
	}
	return nil
}
