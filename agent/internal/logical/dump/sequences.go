package dump

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// sequenceBatch is how many sequences one statement reads.
const sequenceBatch = 500

const sequencesQuery = `SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relpersistence = 'u',
	coalesce((SELECT e.extname::text FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig) LIMIT 1), '')
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind = 'S' AND ` + dumpable + ` ORDER BY c.oid`

// readSequences reads the state of every sequence. Sequences are not part of a
// snapshot, so they must be read after it was taken: then each value is at
// least what the rows under the snapshot used. pg_sequences would not do: it
// loses that a value was set and not used yet.
func readSequences(ctx context.Context, c *postgres.Conn, inRecovery bool) ([]repo.Sequence, error) {
	all := []repo.Sequence{}
	var s repo.Sequence
	var unlogged bool
	err := c.Each(ctx, sequencesQuery, nil, []any{&s.OID, &s.Schema, &s.Name, &unlogged, &s.Extension}, func() error {
		if !unlogged || !inRecovery { // an unlogged one has no contents on a standby
			all = append(all, s)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list sequences: %w", err)
	}
	at := 0
	for batch := range slices.Chunk(all, sequenceBatch) {
		var q []string
		for i, s := range batch {
			q = append(q, fmt.Sprintf("SELECT %d, last_value, is_called FROM %s.%s", at+i, s.Schema.Quote(), s.Name.Quote()))
		}
		var i int
		var last int64
		var called bool
		err := c.Each(ctx, strings.Join(q, " UNION ALL "), nil, []any{&i, &last, &called}, func() error {
			all[i].LastValue, all[i].IsCalled = last, called
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read sequences: %w", err)
		}
		at += len(batch)
	}
	return all, nil
}
