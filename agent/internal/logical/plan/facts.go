package plan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Settings are settings of a server, without what the planning session set.
type Settings struct {
	// MaxConnections, with those kept for superusers and for members of
	// pg_use_reserved_connections (version 16).
	MaxConnections, SuperuserReserved, Reserved int
	// LocksPerTransaction, PreparedTransactions and the processes beside
	// connections make the size of the lock table.
	LocksPerTransaction, PreparedTransactions, OtherProcesses int
	// MaxWAL in bytes, and how many a slot may hold back, -1 for any number.
	MaxWAL, MaxSlotWAL int64
	// ReadOnly is default_transaction_read_only.
	ReadOnly bool
	// Archiving is archive_mode.
	Archiving bool
	// Preloaded are the libraries of shared_preload_libraries; PreloadKnown tells
	// whether the role may read it.
	Preloaded    []string
	PreloadKnown bool
	// RoleLimit is the role's CONNECTION LIMIT, -1 for none, and RoleSessions those
	// that it has now.
	RoleLimit, RoleSessions int
}

// Traffic is what goes on at a server.
type Traffic struct {
	// Sessions that are connected.
	Sessions int
	// ArchiverFailing since the time, with the segment it is stuck at; zero when it is not.
	ArchiverFailing time.Time
	ArchiverStuck   string
	// Standbys that stream, and replication slots that nobody reads from.
	Standbys  int
	IdleSlots []pg.Name
}

// ExtensionVersion is a version that can be installed.
type ExtensionVersion struct {
	Version string
	// Superuser: only one may create it, unless Trusted.
	Superuser, Trusted bool
}

// readFacts reads what the checks need. What the role may not read stays unknown.
func (t *Target) readFacts(ctx context.Context, c *postgres.Conn, q inquiry) error {
	for _, step := range []struct {
		what string
		read func(context.Context, *postgres.Conn, inquiry) error
	}{
		{"settings", t.readSettings}, {"sessions", t.readTraffic}, {"versions of extensions", t.readVersions}, {"locales", t.readTexts},
		{"folders of tablespaces", t.readDirectories}, {"disks", t.readDisk}, {"sizes of databases", t.readSizes},
	} {
		if err := step.read(ctx, c, q); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// settingsQuery gives settings as the server has them for the role and the
// database, whatever the session set since: that is what reset_val is.
const settingsQuery = `SELECT name, coalesce(reset_val, ''), CASE unit WHEN 'MB' THEN 1048576 WHEN 'kB' THEN 1024 ELSE 1 END FROM pg_catalog.pg_settings
	WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections', 'max_locks_per_transaction', 'max_prepared_transactions',
	'autovacuum_max_workers', 'max_worker_processes', 'max_wal_senders', 'max_wal_size', 'max_slot_wal_keep_size', 'default_transaction_read_only',
	'archive_mode', 'shared_preload_libraries')`

func (t *Target) readSettings(ctx context.Context, c *postgres.Conn, _ inquiry) error {
	values, units := map[string]string{}, map[string]int64{}
	var name, value string
	var unit int64
	err := c.Each(ctx, settingsQuery, nil, []any{&name, &value, &unit}, func() error {
		values[name], units[name] = value, unit
		return nil
	})
	if err != nil {
		return err
	}
	number := func(name string) int64 {
		var n int64
		if _, err := fmt.Sscan(values[name], &n); err != nil {
			return 0 // the version does not have it
		}
		return n
	}
	bytes := func(name string) int64 { return max(number(name)*units[name], -1) }
	s := &t.Settings
	s.MaxConnections, s.SuperuserReserved, s.Reserved = int(number("max_connections")), int(number("superuser_reserved_connections")), int(number("reserved_connections"))
	s.LocksPerTransaction, s.PreparedTransactions = int(number("max_locks_per_transaction")), int(number("max_prepared_transactions"))
	s.OtherProcesses = int(number("autovacuum_max_workers") + number("max_worker_processes") + number("max_wal_senders") + 1)
	s.MaxWAL, s.MaxSlotWAL = bytes("max_wal_size"), bytes("max_slot_wal_keep_size")
	s.ReadOnly = values["default_transaction_read_only"] == "on"
	s.Archiving = values["archive_mode"] != "" && values["archive_mode"] != "off"
	libraries, known := values["shared_preload_libraries"]
	s.PreloadKnown = known
	for l := range strings.SplitSeq(libraries, ",") {
		if l = strings.Trim(strings.TrimSpace(l), `"`); l != "" {
			s.Preloaded = append(s.Preloaded, l)
		}
	}
	return c.Each(ctx, `SELECT r.rolconnlimit::int8, (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid AND a.pid <> pg_catalog.pg_backend_pid())
		FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`, nil, []any{&s.RoleLimit, &s.RoleSessions}, func() error { return nil })
}

func (t *Target) readTraffic(ctx context.Context, c *postgres.Conn, _ inquiry) error {
	var failing float64
	a := &t.Traffic
	err := c.Each(ctx, `SELECT (SELECT coalesce(sum(numbackends), 1) - 1 FROM pg_catalog.pg_stat_database)::int8, (SELECT count(*) FROM pg_catalog.pg_stat_replication),
		coalesce(last_failed_wal, ''), CASE WHEN last_failed_time > coalesce(last_archived_time, '-infinity') THEN extract(epoch FROM last_failed_time)::float8 ELSE 0 END
		FROM pg_catalog.pg_stat_archiver`, nil, []any{&a.Sessions, &a.Standbys, &a.ArchiverStuck, &failing}, func() error { return nil })
	if err != nil {
		return err
	}
	if failing > 0 && t.Settings.Archiving {
		a.ArchiverFailing = time.Unix(int64(failing), 0)
	}
	var slot pg.Name
	return c.Each(ctx, "SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL ORDER BY 1 LIMIT 100",
		nil, []any{&slot}, func() error { a.IdleSlots = append(a.IdleSlots, slot); return nil })
}

// readVersions reads which versions of the snapshot's extensions there are.
func (t *Target) readVersions(ctx context.Context, c *postgres.Conn, q inquiry) error {
	t.Versions = map[pg.Name][]ExtensionVersion{}
	wanted := map[pg.Name]bool{}
	for _, n := range q.needs {
		for x := range n.Extensions {
			wanted[x] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		var v ExtensionVersion
		err := c.Each(ctx, "SELECT version, superuser, coalesce(trusted, false) FROM pg_catalog.pg_available_extension_versions WHERE name = $1 ORDER BY version",
			[]any{name}, []any{&v.Version, &v.Superuser, &v.Trusted}, func() error { t.Versions[name] = append(t.Versions[name], v); return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

// readSizes reads how large the databases are that would be replaced.
func (t *Target) readSizes(ctx context.Context, c *postgres.Conn, q inquiry) error {
	if !q.request.Replace {
		return nil
	}
	for name, e := range t.Databases {
		if !slices.ContainsFunc(targetNames(q), func(n pg.Name) bool { return n == name }) {
			continue
		}
		err := c.One(ctx, &e.Size, `SELECT CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
			THEN pg_catalog.pg_database_size(oid) ELSE 0 END FROM pg_catalog.pg_database WHERE datname = $1`, name)
		if err != nil {
			return err
		}
		t.Databases[name] = e
	}
	return nil
}

// targetNames are the names that databases get in the end.
func targetNames(q inquiry) []pg.Name {
	if len(q.request.Databases) == 0 {
		return q.wanted
	}
	var all []pg.Name
	for _, m := range q.request.Databases {
		to := m.Target
		if to == "" {
			to = m.Source
		}
		if name, ok := fromDisplay(to); ok {
			all = append(all, name)
		}
	}
	return all
}

// readDirectories asks the server about the folders of tablespaces that would be
// made. Only some roles may ask; for others they stay unknown.
func (t *Target) readDirectories(ctx context.Context, c *postgres.Conn, q inquiry) error {
	t.Directories = map[string]string{}
	for _, location := range q.locations(t) {
		var exists, folder, used bool
		err := c.Each(ctx, `SELECT s.isdir IS NOT NULL, coalesce(s.isdir, false),
			CASE WHEN s.isdir THEN EXISTS (SELECT FROM pg_catalog.pg_ls_dir($1, true, false) f WHERE f LIKE 'PG\_' || $2 || '\_%') ELSE false END
			FROM pg_catalog.pg_stat_file($1, true) s`, []any{location, c.Version.Major()}, []any{&exists, &folder, &used}, func() error { return nil })
		switch {
		case postgres.Code(err) != "" && !c.Lost():
			if t.Superuser { // who may ask: it is the folder above that is closed
				t.Directories[location] = "cannot be looked into by the server"
			}
		case err != nil:
			return err
		case !exists:
			t.Directories[location] = "does not exist"
		case !folder:
			t.Directories[location] = "is no folder"
		case used:
			t.Directories[location] = fmt.Sprintf("holds a tablespace of a server of version %d already", c.Version.Major())
		default:
			t.Directories[location] = ""
		}
	}
	return nil
}

// locations are the folders, by tablespace, of those that the databases need and
// the restore would make.
func (q inquiry) locations(t *Target) map[pg.Name]string {
	all := map[pg.Name]string{}
	if !q.request.Globals {
		return all
	}
	// What cannot be decoded is refused by the plan.
	for _, s := range decode[repo.TablespaceFacts](&Plan{}, "tablespaces", q.content.Logical.Globals.Tablespaces) {
		for _, n := range q.needs {
			if _, needed := n.Tablespaces[s.Name]; needed && !t.Tablespaces[s.Name] && s.Location != "" {
				all[s.Name] = s.Location
			}
		}
	}
	return all
}
