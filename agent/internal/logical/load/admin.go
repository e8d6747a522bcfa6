package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// admin opens a session outside all databases that the restore moves.
func (r *Restore) admin(ctx context.Context) (*postgres.Conn, error) {
	c, err := postgres.Connect(ctx, r.o.Config, r.adminDatabase(), plan.Application)
	if err != nil {
		return nil, err
	}
	err = c.Apply(ctx, []postgres.Setting{{Name: "default_transaction_read_only", Value: "off"}, {Name: "client_min_messages", Value: "warning"},
		{Name: "synchronous_commit", Value: "on"}, {Name: "search_path", Value: ""}, {Name: "standard_conforming_strings", Value: "on"}})
	if err != nil {
		c.Close(ctx)
		return nil, err
	}
	return c, nil
}

// adminDatabase is the first of the usual databases that is not replaced.
func (r *Restore) adminDatabase() pg.Name {
	for _, name := range []pg.Name{r.plan.Target.Maintenance, postgres.DefaultMaintenance, "template1"} {
		replaced := false
		for i := range r.plan.Databases {
			replaced = replaced || r.plan.Databases[i].Target == name
		}
		if _, ok := r.plan.Target.Databases[name]; ok && !replaced {
			return name
		}
	}
	return "template1"
}

// createGlobals creates missing roles and tablespaces. Roles come in one
// transaction: all or none of them.
func (r *Restore) createGlobals(ctx context.Context) ([]repo.Problem, error) {
	g := &r.plan.Globals
	statements := globalStatements(g, r.plan.Target.Version)
	if len(statements) == 0 && len(g.Tablespaces) == 0 {
		return nil, nil
	}
	c, err := r.admin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	if c.Superuser {
		// Hashes of passwords are in the statements.
		quiet := []postgres.Setting{{Name: "log_statement", Value: "none"}, {Name: "log_min_duration_statement", Value: "-1"}, {Name: "log_min_error_statement", Value: "panic"}}
		if err := c.Apply(ctx, quiet); err != nil {
			return nil, err
		}
	}
	problems, err := transact(ctx, c, statements)
	if err != nil {
		return problems, err
	}
	for _, t := range g.Tablespaces {
		for _, s := range tablespaceStatements(t) {
			err := c.Exec(ctx, s.sql)
			if err != nil && (s.optional == "" || c.Lost()) {
				return problems, fmt.Errorf("tablespace %s: %w", t.Name.Display(), err)
			}
			if err != nil {
				problems = append(problems, notSet(s, err))
			}
		}
	}
	return problems, nil
}

func notSet(s statement, err error) repo.Problem {
	return repo.Problem{Severity: "warning", Object: s.optional, Reason: "not restored: " + err.Error()}
}

// transact runs statements in one transaction. An optional one that fails is a
// problem and nothing else.
func transact(ctx context.Context, c *postgres.Conn, all []statement) ([]repo.Problem, error) {
	if err := c.Exec(ctx, "BEGIN"); err != nil {
		return nil, err
	}
	problems, err := inTransaction(ctx, c, all)
	if err != nil {
		_ = c.Exec(ctx, "ROLLBACK") // the first error says more; a lost connection rolls back by itself
		return problems, err
	}
	return problems, c.Exec(ctx, "COMMIT")
}

func inTransaction(ctx context.Context, c *postgres.Conn, all []statement) (problems []repo.Problem, err error) {
	for _, s := range all {
		if s.optional == "" {
			if err := c.Exec(ctx, s.sql); err != nil {
				return problems, err
			}
			continue
		}
		if err := c.Exec(ctx, "SAVEPOINT tuskvault"); err != nil {
			return problems, err
		}
		if err := c.Exec(ctx, s.sql); err != nil {
			if e := c.Exec(ctx, "ROLLBACK TO SAVEPOINT tuskvault"); e != nil {
				return problems, fmt.Errorf("%w; %w", err, e)
			}
			problems = append(problems, notSet(s, err))
		}
		if err := c.Exec(ctx, "RELEASE SAVEPOINT tuskvault"); err != nil {
			return problems, err
		}
	}
	return problems, nil
}

// create makes the database under its temporary name. One of that name is left
// from an earlier attempt of this job, whose lease has ended: it goes first.
func (r *restore) create(ctx context.Context) error {
	c, err := r.admin(ctx)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	left := []pg.Name{r.d.Temporary}
	if r.d.Replaced != "" {
		left = append(left, r.d.Replaced) // its successor is in place, or it would have its old name
	}
	for _, name := range left {
		if err := r.drop(ctx, c, name); err != nil {
			return fmt.Errorf("drop database %s, left by an earlier attempt: %w", name.Display(), err)
		}
	}
	if err := c.Exec(ctx, r.d.Create); err != nil {
		err = fmt.Errorf("create database %s: %w", r.d.Temporary.Display(), err)
		if postgres.Code(err) == "42809" || postgres.Code(err) == "22023" {
			err = postgres.WithHint(err, "generate the locale on the server's host (locale-gen), or restore where it exists")
		}
		return err
	}
	if err := c.Exec(ctx, "COMMENT ON DATABASE "+r.d.Temporary.Quote()+" IS "+sqltext.Literal(pg.Name(r.mark()))); err != nil {
		return fmt.Errorf("mark database %s as half made: %w", r.d.Temporary.Display(), err)
	}
	return c.One(ctx, &r.oid, "SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = $1", r.d.Temporary)
}

// mark is the comment of the database until it is complete: whoever finds it after
// this agent and its host are gone knows what it is and how it goes.
func (r *restore) mark() string {
	return fmt.Sprintf("half-made restore of database %s, job %s; when that job has ended: %s", r.d.Target.Display(), r.id, dropStatement(r.d.Temporary))
}

// dropStatement drops a half-made database with the sessions in it.
func dropStatement(name pg.Name) string { return "DROP DATABASE " + name.Quote() + " WITH (FORCE);" }

// drop drops a database if it exists, with what would keep it from being dropped.
func (r *Restore) drop(ctx context.Context, c *postgres.Conn, name pg.Name) error {
	var subscriptions int
	var template, found bool
	err := c.Each(ctx, `SELECT (SELECT count(*) FROM pg_catalog.pg_subscription s WHERE s.subdbid = d.oid), d.datistemplate
		FROM pg_catalog.pg_database d WHERE d.datname = $1`, []any{name}, []any{&subscriptions, &template}, func() error { found = true; return nil })
	if err != nil || !found {
		return err
	}
	if subscriptions > 0 {
		if err := r.dropSubscriptions(ctx, c, name); err != nil {
			return fmt.Errorf("drop its subscriptions: %w", err)
		}
	}
	if template {
		if err := c.Exec(ctx, "ALTER DATABASE "+name.Quote()+" IS_TEMPLATE false"); err != nil {
			return err
		}
	}
	return c.Exec(ctx, "DROP DATABASE IF EXISTS "+name.Quote()+" WITH (FORCE)")
}

// dropSubscriptions drops the subscriptions of a database without touching the
// publisher: their slots belong to the original.
func (r *Restore) dropSubscriptions(ctx context.Context, admin *postgres.Conn, name pg.Name) error {
	if err := admin.Exec(ctx, "ALTER DATABASE "+name.Quote()+" ALLOW_CONNECTIONS true"); err != nil {
		return err
	}
	c, err := postgres.Connect(ctx, r.o.Config, name, plan.Application)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if err := c.Apply(ctx, postgres.LoadSession(c.Version, c.Superuser)); err != nil {
		return err
	}
	var all []pg.Name
	var sub pg.Name
	err = c.Each(ctx, `SELECT subname::text FROM pg_catalog.pg_subscription WHERE subdbid =
		(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())`, nil, []any{&sub}, func() error {
		all = append(all, sub)
		return nil
	})
	for _, s := range all {
		if err == nil {
			q := "ALTER SUBSCRIPTION " + s.Quote()
			err = c.Exec(ctx, quietTriggers(c)+q+" DISABLE; "+q+" SET (slot_name = NONE); DROP SUBSCRIPTION "+s.Quote())
		}
	}
	return err
}

// swapTries is how often the moving of names is tried while somebody connects.
const swapTries = 3

// finish gives the database its properties and its name; see swap. Afterwards
// the database that it replaced is dropped.
func (r *restore) finish(ctx context.Context) error {
	settings, err := r.settings()
	if err != nil {
		return err
	}
	c, err := r.admin(ctx)
	if err != nil {
		return err
	}
	defer func() { c.Close(ctx) }()
	statements := finishStatements(r.plan, r.d, settings)
	for i := 1; ; i++ {
		var problems []repo.Problem
		problems, err = r.swap(ctx, c, statements)
		if err == nil {
			for _, p := range problems {
				r.warn(p.Object, p.Reason, p.Hint)
			}
			break
		}
		if ok, e := r.landed(ctx, c); ok {
			break
		} else if e != nil {
			return fmt.Errorf("%w; %w", err, e)
		}
		if i == swapTries || !errors.Is(err, errs.Busy) || ctx.Err() != nil {
			return fmt.Errorf("give it its name: %w", err)
		}
	}
	if r.d.Replaced == "" {
		return nil
	}
	// What was restored is in place: from here on nothing can fail any more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	c2, err := r.admin(ctx)
	if err == nil {
		defer c2.Close(ctx)
		err = r.drop(ctx, c2, r.d.Replaced)
	}
	if err != nil {
		r.warn("database "+r.d.Replaced.Display(), "the replaced database is still there under this name: "+err.Error(), dropStatement(r.d.Replaced))
	}
	return nil
}

// swap runs statements and moves the names in one transaction, whose commit is
// durable and makes durable all that was loaded before. Renaming locks a database
// against new sessions first and then waits for those that are in it, which are
// ended from another session meanwhile.
func (r *restore) swap(ctx context.Context, c *postgres.Conn, statements []statement) ([]repo.Problem, error) {
	stop, err := r.endSessions(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	all := append([]statement{}, statements...)
	if r.d.Replaced != "" {
		all = append(all, statement{sql: "ALTER DATABASE " + r.d.Target.Quote() + " RENAME TO " + r.d.Replaced.Quote()})
	}
	all = append(all, statement{sql: "ALTER DATABASE " + r.d.Temporary.Quote() + " RENAME TO " + r.d.Target.Quote()})
	return transact(ctx, c, all)
}

// endSessions ends sessions in the databases that are renamed, again and again
// until stop is called.
func (r *restore) endSessions(ctx context.Context) (stop func(), err error) {
	c, err := r.admin(ctx)
	if err != nil {
		return nil, err
	}
	names := "datname = " + sqltext.Literal(r.d.Temporary)
	if r.d.Replaced != "" {
		names += " OR datname = " + sqltext.Literal(r.d.Target)
	}
	end := make(chan struct{})
	done := make(chan struct{})
	go func() { // ended and waited for by stop
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			// If it fails the renaming fails too, and says why.
			_ = c.Exec(ctx, "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE ("+names+") AND pid <> pg_catalog.pg_backend_pid() AND backend_type = 'client backend'")
			select {
			case <-tick.C:
			case <-end:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		close(end)
		<-done
		c.Close(ctx)
	}, nil
}

// landed tells, after a commit whose answer was lost, whether it took place.
func (r *restore) landed(ctx context.Context, c *postgres.Conn) (bool, error) {
	if !c.Lost() {
		return false, nil // the server has answered: it was rolled back
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	again, err := r.admin(ctx)
	if err != nil {
		return false, fmt.Errorf("whether database %s is in place is not known: %w", r.d.Target.Display(), err)
	}
	defer again.Close(ctx)
	var name pg.Name
	if err := again.One(ctx, &name, "SELECT datname::text FROM pg_catalog.pg_database WHERE oid = $1", r.oid); err != nil {
		return false, err
	}
	return name == r.d.Target, nil
}
