package postgres

import (
	"context"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// Missing is an object that the session's role cannot read whole.
type Missing struct {
	// Object in display form, schema first.
	Object string
	// Reason in words.
	Reason string
	// Fix is the SQL statement that mends it.
	Fix string
}

// A row for each relation that the role cannot dump whole. What belongs to an
// extension is left out unless the extension registers it as configuration.
const preflightQuery = `SELECT n.nspname::text, c.relname::text, c.relkind::text,
	CASE WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN 'schema'
		WHEN NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN 'select' ELSE 'rls' END, current_user::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
	AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
		AND d.objsubid = 0 AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
		AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_extension x WHERE x.oid = d.refobjid AND c.oid = ANY (x.extconfig)))
	AND (NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') OR NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
		OR (c.relkind = 'r' AND pg_catalog.row_security_active(c.oid)))
ORDER BY n.nspname, c.relname`

// Preflight names every relation of the session's database that the role could
// dump only in part or not at all, with the statement that mends it, and large
// objects that it cannot read. An empty list means that nothing is missing.
func (c *Conn) Preflight(ctx context.Context) ([]Missing, error) {
	var all []Missing
	var schema, name, role pg.Name
	var kind, what string
	err := c.Each(ctx, preflightQuery, nil, []any{&schema, &name, &kind, &what, &role}, func() error {
		all = append(all, missing(schema, name, role, kind, what))
		return nil
	})
	if err != nil {
		return nil, err
	}
	var objects int64
	var readable bool
	err = c.Each(ctx, `SELECT (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata), pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT'),
		current_user::text`, nil, []any{&objects, &readable, &role}, func() error { return nil })
	if err == nil && objects > 0 && !readable {
		all = append(all, Missing{Object: "large objects", Reason: "permission denied for pg_catalog.pg_largeobject",
			Fix: c.readAll(role, "GRANT SELECT ON pg_catalog.pg_largeobject TO "+role.Quote()+";")})
	}
	return all, err
}

// readAll is the fix from version 14 on, where one predefined role covers all.
func (c *Conn) readAll(role pg.Name, before string) string {
	if c.Version.Major() >= 14 {
		return "GRANT pg_read_all_data TO " + role.Quote() + ";"
	}
	return before
}

func missing(schema, name, role pg.Name, kind, what string) Missing {
	m := Missing{Object: schema.Display() + "." + name.Display()}
	switch what {
	case "schema":
		m.Reason = "permission denied for schema " + schema.Display()
		m.Fix = "GRANT USAGE ON SCHEMA " + schema.Quote() + " TO " + role.Quote() + ";"
	case "select":
		object := "TABLE"
		m.Reason = "permission denied for table " + name.Display()
		if kind == "S" {
			object = "SEQUENCE"
			m.Reason = "permission denied for sequence " + name.Display()
		}
		m.Fix = "GRANT SELECT ON " + object + " " + schema.Quote() + "." + name.Quote() + " TO " + role.Quote() + ";"
	default:
		m.Reason = "row-level security would hide rows of table " + name.Display()
		m.Fix = "ALTER ROLE " + role.Quote() + " BYPASSRLS;"
	}
	return m
}
