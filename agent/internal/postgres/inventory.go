package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// applicationProbe is what pg_stat_activity shows of sessions that only look.
const applicationProbe = "tuskvault probe"

// Inventory is what an instance is, for people and planners. It is a claim: it
// grants nothing.
type Inventory struct {
	Version          pg.Version
	SystemIdentifier uint64
	Timeline         uint32
	InRecovery       bool
	BlockSize        int
	// DataDirectory is empty when the role may not read it.
	DataDirectory string
	Databases     []DatabaseInfo
	// LockTableSize is max_locks_per_transaction × (max_connections + max_prepared_transactions).
	LockTableSize int64
	// Roles and Tablespaces that exist; at most 10,000 roles.
	Roles       []pg.Name
	Tablespaces []pg.Name
	// Available are the extensions that could be created.
	Available []ExtensionInfo
	// Settings that matter to a reader of a snapshot.
	Settings map[string]string
}

// DatabaseInfo describes one database, templates included.
type DatabaseInfo struct {
	Name pg.Name
	OID  uint32
	// Size on disk in bytes, -1 when the role may not read it.
	Size     int64
	Encoding string
	// LocaleProvider is "libc", "icu" or "builtin", Locale its locale.
	LocaleProvider, Locale string
	// CollationVersion as recorded, empty when the server records none.
	CollationVersion string
	AllowConnections bool
	Template         bool
	// Extensions created in it; only Inventory with extensions looks.
	Extensions []ExtensionInfo
}

// ExtensionInfo is an extension and a version of it.
type ExtensionInfo struct{ Name, Version string }

// Probe connects to the maintenance database of an instance and takes its
// inventory, including the extensions of each database that can be connected to.
func Probe(ctx context.Context, cfg Config) (*Inventory, error) {
	c, err := ConnectMaintenance(ctx, cfg, applicationProbe)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	inv, err := c.Inventory(ctx)
	if err != nil {
		return nil, fmt.Errorf("take inventory of %s: %w", cfg, err)
	}
	for i := range inv.Databases {
		d := &inv.Databases[i]
		if !d.AllowConnections {
			continue
		}
		// What cannot be looked into is listed without extensions; a backup says why.
		if d.Extensions, err = extensionsOf(ctx, cfg, d.Name); err != nil && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return inv, nil
}

// ConnectMaintenance connects to the database for what concerns the whole
// instance; where the standard one does not exist, to template1.
func ConnectMaintenance(ctx context.Context, cfg Config, application string) (*Conn, error) {
	c, err := Connect(ctx, cfg, cfg.MaintenanceDatabase(), application)
	if err == nil || cfg.Maintenance != "" || Code(err) != CodeUndefinedDatabase {
		return c, err
	}
	t, err2 := Connect(ctx, cfg, "template1", application)
	if err2 != nil {
		return nil, errors.Join(err, err2)
	}
	return t, nil
}

// Inventory takes the inventory, without the extensions of single databases.
func (c *Conn) Inventory(ctx context.Context) (*Inventory, error) {
	inv := &Inventory{Version: c.Version}
	for _, step := range []func(context.Context, *Inventory) error{
		c.readIdentity, c.readSettings, c.readDatabases, c.readNames, c.readAvailable,
	} {
		if err := step(ctx, inv); err != nil {
			return nil, err
		}
	}
	return inv, nil
}

func (c *Conn) readIdentity(ctx context.Context, inv *Inventory) error {
	var id int64
	dest := []any{&id, &inv.Timeline, &inv.InRecovery, &inv.BlockSize}
	err := c.Each(ctx, `SELECT s.system_identifier::text::int8, k.timeline_id::int8, pg_catalog.pg_is_in_recovery(),
		pg_catalog.current_setting('block_size')::int8
		FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() k`, nil, dest, func() error { return nil })
	inv.SystemIdentifier = uint64(id)
	return err
}

// keptSettings are server settings that matter to a reader of a snapshot.
const keptSettings = `'server_version', 'server_encoding', 'block_size', 'segment_size', 'wal_segment_size', 'data_checksums', 'integer_datetimes',
'max_locks_per_transaction', 'max_connections', 'max_prepared_transactions', 'max_identifier_length', 'lc_messages', 'shared_preload_libraries',
'zero_damaged_pages', 'ignore_checksum_failure', 'old_snapshot_threshold', 'hot_standby_feedback', 'max_standby_streaming_delay', 'data_directory'`

func (c *Conn) readSettings(ctx context.Context, inv *Inventory) error {
	inv.Settings = map[string]string{}
	var name, value string
	err := c.Each(ctx, `SELECT name, coalesce(setting, '') FROM pg_catalog.pg_settings WHERE name IN (`+keptSettings+`) ORDER BY name`,
		nil, []any{&name, &value}, func() error {
			if name == "data_directory" {
				inv.DataDirectory = value
			} else {
				inv.Settings[name] = value
			}
			return nil
		})
	if err != nil {
		return err
	}
	return c.One(ctx, &inv.LockTableSize, `SELECT pg_catalog.current_setting('max_locks_per_transaction')::int8 *
		(pg_catalog.current_setting('max_connections')::int8 + pg_catalog.current_setting('max_prepared_transactions')::int8)`)
}

// The row of pg_database as JSON has the columns that the major has: 15 added
// the provider, 17 renamed daticulocale to datlocale.
const databasesQuery = `SELECT d.datname::text, d.oid::int8, d.datallowconn, d.datistemplate, pg_catalog.pg_encoding_to_char(d.encoding)::text,
	CASE coalesce(j->>'datlocprovider', 'c') WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
	coalesce(j->>'datlocale', j->>'daticulocale', d.datcollate::text), coalesce(j->>'datcollversion', ''),
	CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
		THEN pg_catalog.pg_database_size(d.oid) ELSE -1 END
	FROM pg_catalog.pg_database d, pg_catalog.to_jsonb(d) j ORDER BY d.datname`

func (c *Conn) readDatabases(ctx context.Context, inv *Inventory) error {
	var d DatabaseInfo
	dest := []any{&d.Name, &d.OID, &d.AllowConnections, &d.Template, &d.Encoding, &d.LocaleProvider, &d.Locale, &d.CollationVersion, &d.Size}
	return c.Each(ctx, databasesQuery, nil, dest, func() error {
		inv.Databases = append(inv.Databases, d)
		return nil
	})
}

func (c *Conn) readNames(ctx context.Context, inv *Inventory) error {
	var name pg.Name
	err := c.Each(ctx, `SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname LIMIT 10000`,
		nil, []any{&name}, func() error { inv.Roles = append(inv.Roles, name); return nil })
	if err != nil {
		return err
	}
	return c.Each(ctx, `SELECT spcname::text FROM pg_catalog.pg_tablespace ORDER BY spcname`,
		nil, []any{&name}, func() error { inv.Tablespaces = append(inv.Tablespaces, name); return nil })
}

func (c *Conn) readAvailable(ctx context.Context, inv *Inventory) error {
	var e ExtensionInfo
	return c.Each(ctx, `SELECT name::text, coalesce(default_version, '') FROM pg_catalog.pg_available_extensions ORDER BY name`,
		nil, []any{&e.Name, &e.Version}, func() error { inv.Available = append(inv.Available, e); return nil })
}

func extensionsOf(ctx context.Context, cfg Config, database pg.Name) ([]ExtensionInfo, error) {
	c, err := Connect(ctx, cfg, database, applicationProbe)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	var all []ExtensionInfo
	var e ExtensionInfo
	err = c.Each(ctx, `SELECT extname::text, extversion FROM pg_catalog.pg_extension ORDER BY extname`,
		nil, []any{&e.Name, &e.Version}, func() error { all = append(all, e); return nil })
	return all, err
}
