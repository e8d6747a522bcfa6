package plan

import (
	"context"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Target is what planning knows of the server that is restored into.
type Target struct {
	Version    pg.Version
	InRecovery bool
	BlockSize  int
	// Role of the sessions, and what it may.
	Role      pg.Name
	Superuser bool
	CreateDB  bool
	Databases map[pg.Name]Existing
	// Roles and Tablespaces that exist, the system's included.
	Roles       map[pg.Name]bool
	Tablespaces map[pg.Name]bool
	// Extensions that can be created, with their default versions.
	Extensions map[pg.Name]string
	// Encodings that the server knows, of those that the snapshot uses.
	Encodings map[string]bool
	// Maintenance is the database that sessions for the whole server are in.
	Maintenance pg.Name

	// Settings, Traffic and Disk are what a restore meets of the server, and Texts
	// what it knows of locales and collations. What is zero in them is not known.
	Settings Settings
	Traffic  Traffic
	Disk     Disk
	Texts    Texts
	// Versions are those of each extension that the snapshot has and that can be
	// installed.
	Versions map[pg.Name][]ExtensionVersion
	// Directories are the folders where tablespaces would be made, with what is
	// wrong with each; "" is nothing.
	Directories map[string]string
}

// Existing is a database that exists.
type Existing struct {
	// Empty tells that nothing was ever created in it; only looked at where it matters.
	Empty bool
	// Subscriptions that are enabled.
	Subscriptions []pg.Name
	Template      bool
	// Size in bytes; only looked at where it would be replaced, 0 when unknown.
	Size int64
}

// inquiry is what planning asks the server about.
type inquiry struct {
	content *repo.Content
	needs   map[*repo.Database]*Needs
	request job.Restore
	// wanted are the names that the restore would create.
	wanted []pg.Name
}

// readTarget looks at the server. Its sessions are read-only, so that nothing
// can be changed before the plan stands, and by a dry run not at all.
func readTarget(ctx context.Context, cfg postgres.Config, q inquiry) (*Target, error) {
	c, err := postgres.ConnectMaintenance(ctx, cfg, Application)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	t := &Target{
		Version: c.Version, Superuser: c.Superuser, Databases: map[pg.Name]Existing{}, Roles: map[pg.Name]bool{},
		Tablespaces: map[pg.Name]bool{}, Extensions: map[pg.Name]string{}, Encodings: map[string]bool{}, Maintenance: c.Database,
	}
	err = c.Apply(ctx, readOnly)
	if err == nil {
		err = t.read(ctx, c, q.content)
	}
	if err == nil {
		err = t.readFacts(ctx, c, q)
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", cfg, err)
	}
	for _, name := range q.wanted {
		if _, ok := t.Databases[name]; ok && name == postgres.DefaultMaintenance {
			if err := t.lookInto(ctx, cfg, name); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// readOnly is what sessions that plan are under.
var readOnly = []postgres.Setting{{Name: "default_transaction_read_only", Value: "on"}}

func (t *Target) read(ctx context.Context, c *postgres.Conn, content *repo.Content) error {
	err := c.Each(ctx, `SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('block_size')::int8, current_user::text,
		(SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)`,
		nil, []any{&t.InRecovery, &t.BlockSize, &t.Role, &t.CreateDB}, func() error { return nil })
	if err != nil {
		return err
	}
	var name pg.Name
	var template bool
	err = c.Each(ctx, "SELECT datname::text, datistemplate FROM pg_catalog.pg_database", nil, []any{&name, &template}, func() error {
		t.Databases[name] = Existing{Template: template}
		return nil
	})
	if err != nil {
		return err
	}
	// subenabled may be read by everybody, unlike the connection string.
	var database pg.Name
	err = c.Each(ctx, `SELECT d.datname::text, s.subname::text FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
		WHERE s.subenabled`, nil, []any{&database, &name}, func() error {
		e := t.Databases[database]
		e.Subscriptions = append(e.Subscriptions, name)
		t.Databases[database] = e
		return nil
	})
	if err != nil {
		return err
	}
	for query, set := range map[string]map[pg.Name]bool{
		"SELECT rolname::text FROM pg_catalog.pg_roles": t.Roles, "SELECT spcname::text FROM pg_catalog.pg_tablespace": t.Tablespaces,
	} {
		if err := c.Each(ctx, query, nil, []any{&name}, func() error { set[name] = true; return nil }); err != nil {
			return err
		}
	}
	var version string
	err = c.Each(ctx, "SELECT name::text, coalesce(default_version, '') FROM pg_catalog.pg_available_extensions", nil, []any{&name, &version},
		func() error { t.Extensions[name] = version; return nil })
	if err != nil {
		return err
	}
	for i := range content.Logical.Databases {
		var code int
		encoding := content.Logical.Databases[i].Encoding
		if err := c.One(ctx, &code, "SELECT pg_catalog.pg_char_to_encoding($1)", encoding); err != nil {
			return err
		}
		t.Encodings[encoding] = code >= 0
	}
	return nil
}

// lookInto finds out whether the database that initdb makes was ever used:
// objects of users have OIDs from 16384 on.
func (t *Target) lookInto(ctx context.Context, cfg postgres.Config, name pg.Name) error {
	c, err := postgres.Connect(ctx, cfg, name, Application)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if err := c.Apply(ctx, readOnly); err != nil {
		return err
	}
	var tests []string
	for _, catalog := range []string{"pg_class", "pg_proc", "pg_type", "pg_namespace", "pg_extension", "pg_cast", "pg_operator", "pg_largeobject_metadata",
		"pg_event_trigger", "pg_publication", "pg_foreign_server", "pg_foreign_data_wrapper", "pg_collation", "pg_language", "pg_default_acl"} {
		tests = append(tests, "EXISTS (SELECT FROM pg_catalog."+catalog+" WHERE oid >= 16384)")
	}
	e := t.Databases[name]
	var used bool
	if err := c.One(ctx, &used, "SELECT "+strings.Join(tests, " OR ")); err != nil {
		return err
	}
	e.Empty = !used
	t.Databases[name] = e
	return nil
}
