package dump

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// pg_dump leaves some things out and exits 0 all the same: run by a role that is
// no superuser, subscriptions, with a warning, and the options of user mappings,
// without one. They are made from the catalogs here, where the role may read
// them; where it may not, the database is partial and says so.

// readLeftOut fills Statements.
func (c *coordinator) readLeftOut(ctx context.Context) error {
	if c.run.tool.Version.Major() < 15 {
		if err := c.readPublicComment(ctx); err != nil {
			return fmt.Errorf("comment on schema public: %w", err)
		}
	}
	if c.conn.Superuser {
		return nil
	}
	if err := c.readSubscriptions(ctx); err != nil {
		return fmt.Errorf("subscriptions: %w", err)
	}
	if err := c.readUserMappings(ctx); err != nil {
		return fmt.Errorf("user mappings: %w", err)
	}
	return nil
}

// standardComment is what initdb says of schema public.
const standardComment = "standard public schema"

// readPublicComment makes the comment on schema public, which pg_dump before 15
// leaves out, whoever runs it.
func (c *coordinator) readPublicComment(ctx context.Context) error {
	var comment string
	return c.conn.Each(ctx, "SELECT coalesce(pg_catalog.obj_description(oid, 'pg_namespace'), '') FROM pg_catalog.pg_namespace WHERE nspname = 'public'",
		nil, []any{&comment}, func() error {
			if comment != standardComment {
				c.d.out.Statements = append(c.d.out.Statements, "COMMENT ON SCHEMA public IS "+pg.Name(comment).Literal()+";")
			}
			return nil
		})
}

// subscription is a row of pg_subscription, with the columns of all versions.
type subscription struct {
	Name            pg.Name    `json:"subname"`
	Owner           pg.Name    `json:"owner"`
	Comment         *string    `json:"comment"`
	Conninfo        string     `json:"subconninfo"`
	Version         pg.Version `json:"-"` // the server's
	Slot            *pg.Name   `json:"subslotname"`
	SyncCommit      string     `json:"subsynccommit"`
	Publications    []pg.Name  `json:"subpublications"`
	Binary          bool       `json:"subbinary"`
	Stream          any        `json:"substream"` // a boolean until 15, then a letter
	TwoPhase        string     `json:"subtwophasestate"`
	DisableOnError  bool       `json:"subdisableonerr"`
	PasswordNeeded  *bool      `json:"subpasswordrequired"`
	RunAsOwner      bool       `json:"subrunasowner"`
	Failover        bool       `json:"subfailover"`
	Origin          string     `json:"suborigin"`
	RetainDeadTuple bool       `json:"subretaindeadtuples"`
}

func (c *coordinator) readSubscriptions(ctx context.Context) error {
	const here = `subdbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())`
	var count int
	if err := c.conn.One(ctx, &count, "SELECT count(*) FROM pg_catalog.pg_subscription WHERE "+here); err != nil || count == 0 {
		return err
	}
	var readable bool
	if err := c.conn.One(ctx, &readable, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_subscription', 'SELECT')"); err != nil {
		return err
	}
	if !readable {
		c.d.warn(repo.Problem{Severity: "error", Object: "subscriptions", Reason: fmt.Sprintf("%d subscriptions are not in the snapshot: their connections cannot be read", count),
			Hint: c.readGrant("pg_subscription")})
		return nil
	}
	rows, err := jsonRows(ctx, c.conn, `SELECT (pg_catalog.to_jsonb(s) || pg_catalog.jsonb_build_object('owner', pg_catalog.pg_get_userbyid(s.subowner),
		'comment', pg_catalog.obj_description(s.oid, 'pg_subscription')))::text FROM pg_catalog.pg_subscription s WHERE `+here+` ORDER BY s.oid`)
	if err != nil {
		return err
	}
	for _, row := range rows {
		var s subscription
		if err := json.Unmarshal(row, &s); err != nil {
			return err
		}
		s.Version = c.conn.Version
		c.d.out.Statements = append(c.d.out.Statements, s.statements()...)
	}
	return nil
}

// statements make the subscription without connecting: it stays disabled until
// somebody enables it.
func (s *subscription) statements() []string {
	var pubs []string
	for _, p := range s.Publications {
		pubs = append(pubs, p.Quote())
	}
	slot := "NONE"
	if s.Slot != nil {
		slot = s.Slot.Literal()
	}
	with := []string{"connect = false", "slot_name = " + slot}
	add := func(on bool, option string) {
		if on {
			with = append(with, option)
		}
	}
	add(s.Binary, "binary = true")
	add(s.Stream == true || s.Stream == "t", "streaming = on")
	add(s.Stream == "p", "streaming = parallel")
	add(s.Stream == "f" && s.Version.Major() >= 18, "streaming = off") // the default changed
	add(s.SyncCommit != "" && s.SyncCommit != "off", "synchronous_commit = "+pg.Name(s.SyncCommit).Literal())
	add(s.TwoPhase == "p" || s.TwoPhase == "e", "two_phase = on")
	add(s.DisableOnError, "disable_on_error = true")
	add(s.PasswordNeeded != nil && !*s.PasswordNeeded, "password_required = false")
	add(s.RunAsOwner, "run_as_owner = true")
	add(s.Origin != "" && s.Origin != "any", "origin = "+pg.Name(s.Origin).Literal())
	add(s.Failover, "failover = true")
	add(s.RetainDeadTuple, "retain_dead_tuples = true")
	out := []string{
		fmt.Sprintf("CREATE SUBSCRIPTION %s CONNECTION %s PUBLICATION %s WITH (%s);", s.Name.Quote(), pg.Name(s.Conninfo).Literal(),
			strings.Join(pubs, ", "), strings.Join(with, ", ")),
		fmt.Sprintf("ALTER SUBSCRIPTION %s OWNER TO %s;", s.Name.Quote(), s.Owner.Quote()),
	}
	if s.Comment != nil {
		out = append(out, fmt.Sprintf("COMMENT ON SUBSCRIPTION %s IS %s;", s.Name.Quote(), pg.Name(*s.Comment).Literal()))
	}
	return out
}

// readUserMappings makes the options that pg_dump leaves empty. The mapping
// itself is in the archive, so only its options are added.
func (c *coordinator) readUserMappings(ctx context.Context) error {
	var count int
	if err := c.conn.One(ctx, &count, "SELECT count(*) FROM pg_catalog.pg_user_mappings"); err != nil || count == 0 {
		return err
	}
	var readable bool
	if err := c.conn.One(ctx, &readable, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')"); err != nil {
		return err
	}
	if !readable {
		c.d.warn(repo.Problem{Severity: "error", Object: "user mappings", Reason: fmt.Sprintf("%d user mappings are in the snapshot without their options: they cannot be read", count),
			Hint: c.readGrant("pg_user_mapping")})
		return nil
	}
	var user, server, option, value pg.Name
	mappings := map[string][]string{}
	var order []string
	err := c.conn.Each(ctx, `SELECT CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(m.umuser)) END, s.srvname::text, o.option_name, coalesce(o.option_value, '')
		FROM pg_catalog.pg_user_mapping m JOIN pg_catalog.pg_foreign_server s ON s.oid = m.umserver CROSS JOIN LATERAL pg_catalog.pg_options_to_table(m.umoptions) o ORDER BY m.oid`,
		nil, []any{&user, &server, &option, &value}, func() error {
			key := "ALTER USER MAPPING FOR " + string(user) + " SERVER " + server.Quote()
			if mappings[key] == nil {
				order = append(order, key)
			}
			mappings[key] = append(mappings[key], "ADD "+option.Quote()+" "+strings.TrimSpace(value.Literal()))
			return nil
		})
	for _, key := range order {
		c.d.out.Statements = append(c.d.out.Statements, key+" OPTIONS ("+strings.Join(mappings[key], ", ")+");")
	}
	return err
}

// readGrant lets the role read a catalog.
func (c *coordinator) readGrant(catalog string) string {
	role := pg.Name(c.role())
	if c.conn.Version.Major() >= 14 {
		return "GRANT pg_read_all_data TO " + role.Quote() + ";"
	}
	return "GRANT SELECT ON pg_catalog." + catalog + " TO " + role.Quote() + ";"
}

// role is the session's role, for hints.
func (c *coordinator) role() string {
	var role string
	if err := c.conn.One(c.d.ctx, &role, "SELECT current_user::text"); err != nil {
		return "the backup role"
	}
	return role
}
