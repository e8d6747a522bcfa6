package postgres

import (
	"context"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// Setting is a session setting. The order of a list is the order of setting.
type Setting struct{ Name, Value string }

// Map gives settings by name, as the manifest keeps them.
func Map(settings []Setting) map[string]string {
	m := make(map[string]string, len(settings))
	for _, s := range settings {
		m[s.Name] = s.Value
	}
	return m
}

// SourceSession is what rows are read under, for a backup and for comparing:
// without these the same rows would have different texts. client_encoding is
// left as the server has it. superuser tells whether the session's role is one.
func SourceSession(v pg.Version, superuser bool) []Setting {
	s := []Setting{
		{"row_security", "off"}, // an error rather than a subset
		{"search_path", ""},
		{"DateStyle", "ISO"},
		{"IntervalStyle", "postgres"},
		{"TimeZone", "UTC"},
		{"extra_float_digits", "3"},
		{"bytea_output", "hex"},
		{"lc_monetary", "C"},
		{"quote_all_identifiers", "off"},
		{"synchronize_seqscans", "off"}, // else a second scan may begin in the middle
		{"max_parallel_workers_per_gather", "0"},
		{"jit", "off"},
		{"enable_tidscan", "on"},
		{"enable_seqscan", "on"},
		{"standard_conforming_strings", "on"},
		{"client_min_messages", "warning"},
	}
	if v.Major() >= 14 {
		// Ends a query whose reader died without closing the connection.
		s = append(s, Setting{"client_connection_check_interval", "10s"})
	}
	return append(s, loginTriggers(v, superuser)...)
}

// LoadSession is what rows are loaded under. TimeZone and DateStyle stay the
// database's own: texts with offsets load the same anywhere, and checks that
// are only stable must see what they saw. The archive's own settings
// (encoding, search_path) come on top.
func LoadSession(v pg.Version, superuser bool) []Setting {
	s := []Setting{
		{"default_transaction_read_only", "off"},
		{"row_security", "off"},
		{"check_function_bodies", "off"},
		{"xmloption", "content"},
		{"IntervalStyle", "postgres"},
		{"lc_monetary", "C"},
		{"array_nulls", "on"},
		{"standard_conforming_strings", "on"},
		{"client_min_messages", "warning"},
		{"synchronous_commit", "off"},
	}
	return append(s, loginTriggers(v, superuser)...)
}

// loginTriggers keeps event triggers from running in the session, where there
// is a switch for that and the role may use it.
func loginTriggers(v pg.Version, superuser bool) []Setting {
	if v.Major() >= 17 && superuser {
		return []Setting{{"event_triggers", "off"}}
	}
	return nil
}

// Apply sets settings for the rest of the session.
func (c *Conn) Apply(ctx context.Context, settings []Setting) error {
	for _, s := range settings {
		if err := c.Run(ctx, "SELECT pg_catalog.set_config($1, $2, false)", s.Name, s.Value); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
	}
	return nil
}

// noTimeouts turns off every timeout that a role, a database or the server's
// file may set. It must run before BEGIN: transaction_timeout counts from there.
const noTimeouts = `SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN
('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')`
