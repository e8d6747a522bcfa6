package dump

import (
	"context"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// aclJSON makes a repo.ACL of an aclitem[] expression: null stays null.
func aclJSON(expression string) string {
	return `CASE WHEN ` + expression + ` IS NULL THEN NULL ELSE coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
		'grantor', pg_catalog.pg_get_userbyid(x.grantor), 'grantee', CASE WHEN x.grantee = 0 THEN '' ELSE pg_catalog.pg_get_userbyid(x.grantee) END,
		'privilege', x.privilege_type, 'grantable', x.is_grantable)) FROM pg_catalog.aclexplode(` + expression + `) x), '[]') END`
}

// readGlobals reads roles, memberships, settings of roles, tablespaces and
// privileges on parameters as fields. Password hashes are there if the role may
// read pg_authid.
func readGlobals(ctx context.Context, c *postgres.Conn) (repo.Globals, error) {
	g := repo.Globals{Roles: []json.RawMessage{}, Memberships: []json.RawMessage{}, RoleSettings: []json.RawMessage{},
		Tablespaces: []json.RawMessage{}, ParameterACLs: []json.RawMessage{}}
	if err := c.One(ctx, &g.PasswordsRead, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"); err != nil {
		return g, err
	}
	roles, masked := "pg_catalog.pg_authid", ""
	if !g.PasswordsRead {
		roles, masked = "pg_catalog.pg_roles", " - 'rolpassword' - 'rolconfig'" // pg_roles shows stars
	}
	queries := []struct {
		to  *[]json.RawMessage
		sql string
	}{
		{&g.Roles, `SELECT (pg_catalog.to_jsonb(r)` + masked + ` || pg_catalog.jsonb_build_object('comment', pg_catalog.shobj_description(r.oid, 'pg_authid')))::text
			FROM ` + roles + ` r WHERE r.rolname !~ '^pg_' ORDER BY r.oid`},
		{&g.Memberships, `SELECT (pg_catalog.to_jsonb(m) - 'roleid' - 'member' - 'grantor' - 'oid' || pg_catalog.jsonb_build_object(
			'role', pg_catalog.pg_get_userbyid(m.roleid), 'member', pg_catalog.pg_get_userbyid(m.member), 'grantor', pg_catalog.pg_get_userbyid(m.grantor)))::text
			FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member WHERE r.rolname !~ '^pg_' ORDER BY m.roleid, m.member, m.grantor`},
		{&g.RoleSettings, settingsQuery(`0`)},
		{&g.Tablespaces, `SELECT pg_catalog.jsonb_build_object('name', t.spcname, 'owner', pg_catalog.pg_get_userbyid(t.spcowner),
			'location', pg_catalog.pg_tablespace_location(t.oid), 'acl', ` + aclJSON("t.spcacl") + `, 'options', t.spcoptions,
			'comment', pg_catalog.shobj_description(t.oid, 'pg_tablespace'))::text FROM pg_catalog.pg_tablespace t WHERE t.spcname !~ '^pg_' ORDER BY t.oid`},
	}
	if c.Version.Major() >= 15 {
		queries = append(queries, struct {
			to  *[]json.RawMessage
			sql string
		}{&g.ParameterACLs, `SELECT pg_catalog.jsonb_build_object('name', p.parname, 'acl', ` + aclJSON("p.paracl") + `)::text FROM pg_catalog.pg_parameter_acl p ORDER BY p.parname`})
	}
	for _, q := range queries {
		rows, err := jsonRows(ctx, c, q.sql)
		if err != nil {
			return g, err
		}
		*q.to = append(*q.to, rows...)
	}
	return g, nil
}

// settingsQuery reads what ALTER ROLE and ALTER DATABASE have set for a database, 0 for all.
func settingsQuery(database string) string {
	return `SELECT pg_catalog.jsonb_build_object('role', CASE WHEN s.setrole = 0 THEN '' ELSE pg_catalog.pg_get_userbyid(s.setrole) END, 'settings', s.setconfig)::text
		FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = ` + database + ` ORDER BY s.setrole`
}

// jsonRows runs a query of one column of JSON texts.
func jsonRows(ctx context.Context, c *postgres.Conn, sql string, args ...any) ([]json.RawMessage, error) {
	all := []json.RawMessage{}
	var text string
	err := c.Each(ctx, sql, args, []any{&text}, func() error {
		// In a SQL_ASCII database a name may be no UTF-8, and then there is no JSON of it.
		if !utf8.ValidString(text) {
			return fmt.Errorf("catalog row %q: a name in it is not UTF-8: %w", text, errs.Unsupported)
		}
		all = append(all, json.RawMessage(text))
		return nil
	})
	return all, err
}
