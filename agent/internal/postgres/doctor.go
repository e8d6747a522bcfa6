package postgres

import (
	"context"
	"fmt"

	"github.com/tuskvault/tuskvault/internal/pg"
)

// Status is how a check ended.
type Status string

// The statuses.
const (
	// OK: nothing to do.
	OK Status = "ok"
	// Warn: backups work, and something should be mended.
	Warn Status = "warn"
	// Fail: backups of this do not work, or not in full.
	Fail Status = "fail"
)

// Check is one line of the doctor's report.
type Check struct {
	// Name says what was looked at, for example "pg_dump" or "database shop".
	Name   string
	Status Status
	// Detail is what was found.
	Detail string
	// Fix is what to do, empty when there is nothing.
	Fix string
}

// mostNamed bounds the objects that the doctor names in one database.
const mostNamed = 50

// safe has the first version of each major without known holes that concern
// whoever reads a server: a hostile server could attack its reader.
var safe = map[int]pg.Version{13: 130023, 14: 140023, 15: 150018, 16: 160014, 17: 170010, 18: 180004}

// Doctor looks at everything a backup of the instance needs and tells, one line
// each, what it found and what to do. It changes nothing.
func Doctor(ctx context.Context, cfg Config) []Check {
	c, err := ConnectMaintenance(ctx, cfg, applicationProbe)
	if err != nil {
		return []Check{{Name: "connection", Status: Fail, Detail: err.Error(), Fix: Hint(err)}}
	}
	defer c.Close(ctx)
	d := doctor{cfg: cfg, conn: c}
	d.add(Check{Name: "connection", Status: OK, Detail: fmt.Sprintf("%s, PostgreSQL %s", cfg, c.Version)})
	d.server()
	d.tools(ctx)
	d.role(ctx)
	d.databases(ctx)
	return d.checks
}

type doctor struct {
	cfg    Config
	conn   *Conn
	checks []Check
}

func (d *doctor) add(c Check) { d.checks = append(d.checks, c) }

// failed adds a check that could not be made.
func (d *doctor) failed(name string, err error) {
	d.add(Check{Name: name, Status: Fail, Detail: err.Error(), Fix: Hint(err)})
}

func (d *doctor) server() {
	v := d.conn.Version
	min, known := safe[v.Major()]
	switch {
	case v.Major() < 13:
		d.add(Check{Name: "server version", Status: Fail, Detail: v.String() + ": 13 is the oldest that can be backed up", Fix: "upgrade PostgreSQL"})
	case !known:
		d.add(Check{Name: "server version", Status: Warn, Detail: v.String() + ": newer than this agent knows", Fix: "upgrade the agent"})
	case v < min:
		d.add(Check{Name: "server version", Status: Warn, Detail: v.String() + ": has security holes fixed in " + min.String(), Fix: "upgrade PostgreSQL to " + min.String()})
	default:
		d.add(Check{Name: "server version", Status: OK, Detail: v.String()})
	}
}

func (d *doctor) tools(ctx context.Context) {
	tool, err := FindTools(ctx, "pg_dump", d.cfg.ToolDirs).For("pg_dump", d.conn.Version)
	if err != nil {
		d.failed("pg_dump", err)
		return
	}
	c := Check{Name: "pg_dump", Status: OK, Detail: tool.Path + " " + tool.Version.String()}
	if min, known := safe[tool.Version.Major()]; known && tool.Version < min {
		c.Status, c.Fix = Warn, "upgrade the PostgreSQL client to "+min.String()
		c.Detail += ": has security holes fixed in " + min.String()
	}
	d.add(c)
}

// role checks what the role is granted once for the whole instance.
func (d *doctor) role(ctx context.Context) {
	var role pg.Name
	var super, bypass, monitor, passwords bool
	err := d.conn.Each(ctx, `SELECT r.rolname::text, r.rolsuper, r.rolbypassrls, pg_catalog.pg_has_role(r.oid, 'pg_monitor', 'USAGE'),
		pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT') FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`,
		nil, []any{&role, &super, &bypass, &monitor, &passwords}, func() error { return nil })
	if err != nil {
		d.failed("role", err)
		return
	}
	name := "role " + role.Display()
	if super {
		d.add(Check{Name: name, Status: Warn, Detail: "is a superuser: more than a backup needs",
			Fix: "CREATE ROLE tuskvault LOGIN BYPASSRLS; GRANT pg_read_all_data, pg_monitor TO tuskvault;"})
		return
	}
	missing := false
	need := func(has bool, status Status, detail, fix string) {
		if !has {
			missing = true
			d.add(Check{Name: name, Status: status, Detail: detail, Fix: fix})
		}
	}
	q := role.Quote()
	need(bypass, Warn, "without BYPASSRLS every table with row-level security is refused", "ALTER ROLE "+q+" BYPASSRLS;")
	need(monitor, Warn, "cannot see who waits behind a backup", "GRANT pg_monitor TO "+q+";")
	need(passwords, Warn, "cannot read password hashes in database "+d.conn.Database.Display()+": restored roles have none",
		d.conn.readAll(role, "GRANT SELECT ON pg_catalog.pg_authid TO "+q+";"))
	if !missing {
		d.add(Check{Name: name, Status: OK, Detail: "may read what a backup needs; it can read password hashes, so guard it"})
	}
}

func (d *doctor) databases(ctx context.Context) {
	inv, err := d.conn.Inventory(ctx)
	if err != nil {
		d.failed("inventory", err)
		return
	}
	for _, name := range []string{"zero_damaged_pages", "ignore_checksum_failure"} {
		if inv.Settings[name] == "on" {
			d.add(Check{Name: "setting " + name, Status: Fail, Detail: "is on: damaged rows would be missing from backups without a word",
				Fix: "ALTER SYSTEM RESET " + name + "; SELECT pg_reload_conf();"})
		}
	}
	if inv.InRecovery {
		d.add(Check{Name: "standby", Status: Warn, Detail: "unlogged tables have no rows here, and a long backup may be canceled by recovery",
			Fix: "set hot_standby_feedback = on, or back up the primary"})
	}
	for _, info := range inv.Databases {
		own := info.Template && (info.Name == "template0" || info.Name == "template1")
		if own {
			continue
		}
		if !info.AllowConnections {
			d.add(Check{Name: "database " + info.Name.Display(), Status: Fail, Detail: "accepts no connections",
				Fix: "ALTER DATABASE " + info.Name.Quote() + " ALLOW_CONNECTIONS true; or exclude it"})
			continue
		}
		d.database(ctx, info.Name, inv.LockTableSize)
		if ctx.Err() != nil {
			d.failed("doctor", context.Cause(ctx))
			return
		}
	}
}

// database checks one database.
func (d *doctor) database(ctx context.Context, database pg.Name, lockTable int64) {
	name := "database " + database.Display()
	c, err := Connect(ctx, d.cfg, database, applicationProbe)
	if err != nil {
		d.failed(name, err)
		return
	}
	defer c.Close(ctx)
	before := len(d.checks)
	missing, err := c.Preflight(ctx)
	if err != nil {
		d.failed(name, err)
		return
	}
	for i, m := range missing {
		if i == mostNamed {
			d.add(Check{Name: name, Status: Fail, Detail: fmt.Sprintf("and %d more objects that the role cannot read", len(missing)-i), Fix: "see the lines above"})
			break
		}
		d.add(Check{Name: name, Status: Fail, Detail: m.Object + ": " + m.Reason, Fix: m.Fix})
	}
	if err := d.leftOut(ctx, c, name); err != nil {
		d.failed(name, err)
		return
	}
	var tables int64
	if err := c.One(ctx, &tables, `SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`); err != nil {
		d.failed(name, err)
		return
	}
	// The coordinator and pg_dump lock every table, and the application needs room too.
	if 2*tables > lockTable*9/10 {
		d.add(Check{Name: name, Status: Fail, Detail: fmt.Sprintf("%d tables need %d locks, the server has room for %d", tables, 2*tables, lockTable),
			Fix: "raise max_locks_per_transaction and restart PostgreSQL"})
	}
	if len(d.checks) == before {
		d.add(Check{Name: name, Status: OK, Detail: fmt.Sprintf("%d tables, all readable", tables)})
	}
}

// leftOut checks what pg_dump leaves out for a role that is no superuser.
func (d *doctor) leftOut(ctx context.Context, c *Conn, name string) error {
	if c.Superuser {
		return nil
	}
	var role pg.Name
	var subscriptions, mappings int64
	var readSubscriptions, readMappings bool
	err := c.Each(ctx, `SELECT current_user::text,
		(SELECT count(*) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database b ON b.oid = s.subdbid WHERE b.datname = pg_catalog.current_database()),
		pg_catalog.has_table_privilege('pg_catalog.pg_subscription', 'SELECT'),
		(SELECT count(*) FROM pg_catalog.pg_user_mappings), pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')`,
		nil, []any{&role, &subscriptions, &readSubscriptions, &mappings, &readMappings}, func() error { return nil })
	if err != nil {
		return err
	}
	say := func(n int64, readable bool, what, catalog string) {
		if n > 0 && !readable {
			d.add(Check{Name: name, Status: Fail, Detail: fmt.Sprintf("%d %s cannot be read", n, what),
				Fix: c.readAll(role, "GRANT SELECT ON pg_catalog."+catalog+" TO "+role.Quote()+";")})
		}
	}
	say(subscriptions, readSubscriptions, "subscriptions", "pg_subscription")
	say(mappings, readMappings, "user mappings", "pg_user_mapping")
	return nil
}

// Worst tells the worst status of a report.
func Worst(checks []Check) Status {
	worst := OK
	for _, c := range checks {
		if c.Status == Fail || c.Status == Warn && worst == OK {
			worst = c.Status
		}
	}
	return worst
}
