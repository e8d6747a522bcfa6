package load

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// runLive brings tables into a database that is in use. What is there after a
// crash between two steps is said in brackets; live tables are as they were
// before the last step, and complete after it.
//
//  1. The staging schema is made, marked by a comment with the job's id; one that
//     an earlier attempt left goes first. [the staging schema, to be dropped by the
//     command in its comment, or by the next attempt of the job]
//  2. Tables are made in it, rows loaded and compared like those of a new
//     database. [the same]
//  3. Beside: in one transaction the schema gets its name, and a comment that says
//     what is in it. [either the staging schema, or the tables under their schema's name]
//     In place: see replaceRows. [either the staging schema and the old rows, or the
//     new rows and the schema that keeps the old ones]
//
// An attempt that finds the last step done by an earlier one does nothing.
func (r *restore) runLive(ctx context.Context) error {
	l := r.d.Live
	if l.Done {
		r.o.Reporter.Log("info", "an earlier attempt of this job did it: schema "+l.Schema.Display()+" is there")
		return nil
	}
	if err := r.createStaging(ctx); err != nil {
		return fmt.Errorf("create schema %s: %w", l.Staging.Display(), err)
	}
	err := r.fill(ctx)
	if err == nil && l.InPlace {
		err = r.replaceRows(ctx)
	} else if err == nil {
		err = r.reveal(ctx)
	}
	if err != nil {
		return r.dropStaging(ctx, err)
	}
	return nil
}

// liveConn opens a session in the database in use.
func (r *Restore) liveConn(ctx context.Context, d *plan.DatabasePlan) (*postgres.Conn, error) {
	c, err := postgres.Connect(ctx, r.o.Config, d.Target, plan.Application)
	if err != nil {
		return nil, err
	}
	err = c.Apply(ctx, []postgres.Setting{{Name: "default_transaction_read_only", Value: "off"}, {Name: "client_min_messages", Value: "warning"},
		{Name: "synchronous_commit", Value: "on"}, {Name: "search_path", Value: ""}, {Name: "standard_conforming_strings", Value: "on"},
		{Name: "row_security", Value: "off"}, {Name: "quote_all_identifiers", Value: "off"}})
	if err != nil {
		c.Close(ctx)
		return nil, err
	}
	return c, nil
}

func (r *restore) createStaging(ctx context.Context) error {
	c, err := r.liveConn(ctx, r.d)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	schema := r.d.Live.Staging.Quote()
	// One message is one transaction: there is no schema without its mark.
	return c.Exec(ctx, quietTriggers(c)+"DROP SCHEMA IF EXISTS "+schema+" CASCADE; CREATE SCHEMA "+schema+"; COMMENT ON SCHEMA "+schema+" IS "+
		sqltext.Literal(pg.Name(plan.Mark(r.id)+"not complete; to drop it: DROP SCHEMA "+schema+" CASCADE;")))
}

// dropStaging removes the half-made schema after a failure, also when ctx has ended.
func (r *restore) dropStaging(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	schema := r.d.Live.Staging
	c, err := r.liveConn(ctx, r.d)
	if err == nil {
		defer c.Close(ctx)
		err = c.Exec(ctx, quietTriggers(c)+"DROP SCHEMA IF EXISTS "+schema.Quote()+" CASCADE")
	}
	if err != nil {
		left := fmt.Errorf("the half-made schema %s is still there: %w", schema.Display(), err)
		return postgres.WithHint(fmt.Errorf("%w; %w", cause, left), "in database "+r.d.Target.Display()+": DROP SCHEMA "+schema.Quote()+" CASCADE;")
	}
	r.o.Reporter.Log("warn", "dropped the half-made schema "+schema.Display())
	return postgres.WithHint(fmt.Errorf("%w (the half-made schema %s was dropped, nothing else was touched)", cause, schema.Display()), postgres.Hint(cause))
}

// reveal gives the tables beside the live ones their schema's name.
func (r *restore) reveal(ctx context.Context) error {
	l := r.d.Live
	c, err := r.liveConn(ctx, r.d)
	if err != nil {
		return err
	}
	defer func() { c.Close(ctx) }()
	comment := plan.MarkDone(r.id) + fmt.Sprintf("%d tables of %s; to drop them: %s", r.d.Tables, r.snapshotName(), l.DropCommand())
	_, err = transact(ctx, c, []statement{
		{sql: quietTriggers(c) + "ALTER SCHEMA " + l.Staging.Quote() + " RENAME TO " + l.Schema.Quote()},
		{sql: "COMMENT ON SCHEMA " + l.Schema.Quote() + " IS " + sqltext.Literal(pg.Name(comment))},
	})
	if err != nil {
		if ok, e := r.liveLanded(ctx, c); e != nil {
			return fmt.Errorf("%w; %w", err, e)
		} else if !ok {
			return fmt.Errorf("give schema %s its name: %w", l.Schema.Display(), err)
		}
	}
	r.warn("schema "+l.Schema.Display(), "holds the restored tables", "when they are not needed any more, in database "+r.d.Target.Display()+": "+l.DropCommand())
	return nil
}

// snapshotName names the snapshot for comments.
func (r *restore) snapshotName() string {
	return fmt.Sprintf("snapshot %s, database %s as of %s", r.plan.Request.Snapshot, r.d.Source.Name.Display(), r.d.Source.Time.UTC().Format("2006-01-02 15:04:05Z"))
}

// liveLanded tells, after a commit whose answer was lost, whether it took place.
func (r *restore) liveLanded(ctx context.Context, c *postgres.Conn) (bool, error) {
	if !c.Lost() {
		return false, nil // the server has answered: it was rolled back
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	again, err := r.liveConn(ctx, r.d)
	if err != nil {
		return false, fmt.Errorf("whether it is in place is not known; look for schema %s: %w", r.d.Live.Schema.Display(), err)
	}
	defer again.Close(ctx)
	f := &plan.LiveFacts{}
	if err := f.ReadSchemas(ctx, again, r.d.Live.Schema); err != nil {
		return false, err
	}
	return strings.HasPrefix(f.Schemas[r.d.Live.Schema], plan.MarkDone(r.id)), nil
}

// analyzeLive gathers statistics of tables whose rows are new. A failure is a warning.
func (r *restore) analyzeLive(ctx context.Context, c *postgres.Conn) {
	r.progress.set(job.PhaseStatistics)
	for _, u := range r.d.Live.Units {
		if err := c.Exec(ctx, "ANALYZE "+u.Live.Quoted()); err != nil {
			r.warn("statistics", "could not be gathered of "+u.Live.String()+": "+err.Error(), "ANALYZE "+u.Live.Quoted()+";")
		}
	}
}

// locked gives the relations that replacing rows locks: those of units, and those
// that foreign keys tie to them. Both are in one order for every restore.
func locked(l *plan.LivePlan) (units, neighbours []string) {
	for _, u := range l.Units {
		units = append(units, u.Live.Quoted())
	}
	for _, k := range l.Keys {
		for _, q := range []string{k.From.Quoted(), k.To.Quoted()} {
			if !slices.Contains(units, q) && !slices.Contains(neighbours, q) {
				neighbours = append(neighbours, q)
			}
		}
	}
	slices.Sort(units)
	slices.Sort(neighbours)
	return units, neighbours
}
