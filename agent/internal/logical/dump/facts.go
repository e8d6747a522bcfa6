package dump

import (
	"context"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// readFacts reads what the manifest says of the database as a whole, under the
// snapshot, and what pg_dump leaves out.
func (c *coordinator) readFacts() error {
	d, ctx := c.d, c.d.ctx
	d.out = repo.Database{
		Name: d.info.Name, OID: d.info.OID, Encoding: d.info.Encoding, Session: postgres.Map(postgres.SourceSession(c.conn.Version, c.conn.Superuser)),
		Extensions: []repo.ExtensionFacts{}, Statements: []string{},
	}
	for _, step := range []func(context.Context) error{c.readPosition, c.readProperties, c.readPublic, c.readExtensions, c.readSize, c.readCollations, c.readLeftOut} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("database %s: read facts: %w", d.info.Name.Display(), err)
		}
	}
	return nil
}

// readPosition notes where in the log the snapshot stands, roughly: the position
// is read just after it.
func (c *coordinator) readPosition(ctx context.Context) error {
	position := "pg_catalog.pg_current_wal_lsn()"
	if c.run.inv.InRecovery {
		position = "coalesce(pg_catalog.pg_last_wal_replay_lsn(), '0/0')"
	}
	var lsn string
	var micros int64
	err := c.conn.Each(ctx, "SELECT "+position+"::text, (extract(epoch FROM pg_catalog.transaction_timestamp()) * 1000000)::int8",
		nil, []any{&lsn, &micros}, func() error { return nil })
	if err != nil {
		return err
	}
	c.d.out.Time = time.UnixMicro(micros).UTC()
	c.d.out.LSN, err = pg.ParseLSN(lsn)
	return err
}

func (c *coordinator) readProperties(ctx context.Context) error {
	rows, err := jsonRows(ctx, c.conn, `SELECT (pg_catalog.to_jsonb(d) - 'datacl' - 'datname' || pg_catalog.jsonb_build_object('encoding_name', pg_catalog.pg_encoding_to_char(d.encoding),
		'owner', pg_catalog.pg_get_userbyid(d.datdba), 'tablespace', (SELECT spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace),
		'acl', `+aclJSON("d.datacl")+`, 'comment', pg_catalog.shobj_description(d.oid, 'pg_database')))::text
		FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`)
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return fmt.Errorf("pg_database has %d rows of it", len(rows))
	}
	c.d.out.Properties = rows[0]
	c.d.out.Settings, err = jsonRows(ctx, c.conn,
		settingsQuery("(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())"))
	return err
}

// readPublic notes what a restore across version 15 needs: older servers let
// everybody create in schema public, and older pg_dump does not say so.
func (c *coordinator) readPublic(ctx context.Context) error {
	o := &c.d.out
	return c.conn.Each(ctx, `SELECT coalesce(nspacl::text, ''), pg_catalog.pg_get_userbyid(nspowner)::text FROM pg_catalog.pg_namespace WHERE nspname = 'public'`,
		nil, []any{&o.PublicACL, &o.PublicOwner}, func() error { return nil })
}

func (c *coordinator) readExtensions(ctx context.Context) error {
	var e repo.ExtensionFacts
	return c.conn.Each(ctx, `SELECT e.extname::text, e.extversion, n.nspname::text FROM pg_catalog.pg_extension e
		JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname`, nil, []any{&e.Name, &e.Version, &e.Schema}, func() error {
		c.d.out.Extensions = append(c.d.out.Extensions, e)
		return nil
	})
}

// readContents lists what has contents: tables, sequences, large objects.
func (c *coordinator) readContents() error {
	d, ctx := c.d, c.d.ctx
	var err error
	if d.tables, err = listTables(ctx, c.conn); err != nil {
		return fmt.Errorf("database %s: %w", d.info.Name.Display(), err)
	}
	for _, t := range d.tables {
		if t.out.Unlogged && c.run.inv.InRecovery {
			t.out.Omitted = "unlogged tables have no rows on a standby"
			d.warn(repo.Problem{Severity: "warning", Object: t.display(), Reason: t.out.Omitted, Hint: "back up the primary to have them"})
		}
	}
	members, err := listMembers(ctx, c.conn)
	if err != nil {
		return fmt.Errorf("database %s: list tables of extensions: %w", d.info.Name.Display(), err)
	}
	d.tables = append(d.tables, members...)
	if d.out.Sequences, err = readSequences(ctx, c.conn, c.run.inv.InRecovery); err != nil {
		return fmt.Errorf("database %s: %w", d.info.Name.Display(), err)
	}
	if err := c.listObjects(ctx); err != nil {
		return fmt.Errorf("database %s: list large objects: %w", d.info.Name.Display(), err)
	}
	return nil
}
