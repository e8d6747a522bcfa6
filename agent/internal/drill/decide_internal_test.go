package drill

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/internal/errs"
)

func TestOnlyWhatLiesInTheSnapshotIsDamage(t *testing.T) {
	server := func(code string) error { return fmt.Errorf("restore x: %w", &pgconn.PgError{Code: code}) }
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"a chunk that does not open":          {fmt.Errorf("chunk: %w", errs.Corrupt), true},
		"a constraint that does not hold":     {server("23514"), true},
		"a function that is not there":        {server("42883"), true},
		"a statement that cannot be read":     {server("42601"), true},
		"a peer that was away":                {fmt.Errorf("controller: %w", errs.Unavailable), false},
		"a full disk":                         {fmt.Errorf("%w: %w", server("53100"), errs.Exhausted), false},
		"no memory":                           {server("53200"), false},
		"a locale that this host lacks":       {server("42809"), false},
		"one that PostgreSQL does not know":   {server("22023"), false},
		"a library that is not installed":     {server("58P01"), false},
		"a file that cannot be read":          {server("58030"), false},
		"a server that ended":                 {fmt.Errorf("%w: %w", server("57P01"), errs.Unavailable), false},
		"an extension that is not there":      {fmt.Errorf("plan: extension x: the server does not have it: %w", errs.Conflict), false},
		"something that no server has said":   {errors.New("odd"), false},
		"a feature that the version has not":  {fmt.Errorf("%w: %w", server("0A000"), errs.Unsupported), false},
		"damage that the server itself found": {fmt.Errorf("%w: %w", server("XX001"), errs.Corrupt), true},
	} {
		if got := damaged(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAServerListensNowhereAndDoesNothingByItself(t *testing.T) {
	value := func(s setup, name string) string {
		i := slices.IndexFunc(settings(s), func(o setting) bool { return o.name == name })
		if i < 0 {
			return "(none)"
		}
		return settings(s)[i].value
	}
	small, large := setup{version: 150018, memory: 1 << 30, sessions: 4, socket: "/s"}, setup{version: 170001, memory: 1 << 40, sessions: 20, preload: []string{"a", "b"}}
	for name, want := range map[string]string{"listen_addresses": "", "unix_socket_permissions": "0700", "unix_socket_directories": "/s", "archive_mode": "off",
		"wal_level": "minimal", "max_wal_senders": "0", "max_logical_replication_workers": "0", "fsync": "off", "jit": "off", "huge_pages": "off",
		"restart_after_crash": "off", "shared_preload_libraries": "", "dynamic_shared_memory_type": "mmap", "max_connections": "14",
		"shared_buffers": "65536kB", "event_triggers": "(none)"} {
		if got := value(small, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"shared_buffers": "524288kB", "event_triggers": "off", "shared_preload_libraries": "a, b"} {
		if got := value(large, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got := value(setup{}, "shared_buffers"); got != "32768kB" {
		t.Errorf("with unknown memory %s", got)
	}
	there := func(name string) bool { return name != "gone" }
	if got := preloads([]string{"b", "a", "gone", "a", "other"}, []string{"a", "b", "gone"}, there); strings.Join(got, " ") != "a b" {
		t.Errorf("preloads %v", got)
	}
}

func TestABaseNearDataIsRefused(t *testing.T) {
	data := []string{"/var/lib/postgresql/15/main", "/mnt/fast/"}
	for base, bad := range map[string]bool{
		"/var/lib/tuskvault-drill": false, "/var/lib/postgresql/15/main": true, "/var/lib/postgresql/15/main/base": true, "/var/lib/postgresql/15/main2": false,
		"/var/lib": true, "/": true, "/mnt/fast/x": true, "/mnt": true, "/mnt/faster": false, "/srv": false,
	} {
		if err := near(base, data); (err != nil) != bad {
			t.Errorf("%s: %v", base, err)
		}
	}
}
