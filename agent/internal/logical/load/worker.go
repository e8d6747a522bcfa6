package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// worker is one session in the new database.
type worker struct {
	run        *restore
	conn       *postgres.Conn
	tablespace pg.Name // default_tablespace of the session
	method     pg.Name // default_table_access_method
	memory     int64   // maintenance_work_mem, in bytes
	parallel   int     // max_parallel_maintenance_workers
	within     bool    // rows are read back within a transaction that has the settings
	alone      bool    // queries have no processes to help them
}

// tries is how often an entry is executed that met a deadlock.
const tries = 5

// lateCodes are failures to load rows that may pass when everything else is
// there: a name that does not exist yet (a regclass column that names an index),
// or a check whose function reads another table.
var lateCodes = []string{"42P01", "42883", "42704", "3F000", "23514", "P0001", "P0002"}

// work does nodes until none is left.
func (w *worker) work(ctx context.Context) error {
	for {
		n, err := w.run.sched.next(ctx)
		if n == nil || err != nil {
			return err
		}
		began := time.Now()
		ended := w.run.progress.begin(n)
		err = w.do(ctx, n)
		if w.skips(ctx, n, err) {
			err = nil
		}
		ended(err)
		w.run.spend(n, time.Since(began))
		late := err != nil && n.kind == nodeRun && ctx.Err() == nil && slices.Contains(lateCodes, postgres.Code(err))
		if err != nil {
			err = w.explain(n, err)
			if !late && w.run.fault(ctx, n, err) {
				err = nil
			}
		}
		if late {
			w.run.putOff(n.table)
		}
		w.run.sched.done(n, err, late)
		if err != nil && !late {
			return err
		}
	}
}

// explain adds what was being done.
func (w *worker) explain(n *node, err error) error {
	switch n.kind {
	case nodeRun:
		return fmt.Errorf("load %s: %w", n, err)
	case nodeVerify, nodeVerifyTree, nodeVerifyObjects:
		return err // names its object
	}
	return fmt.Errorf("restore %s: %w", n, err)
}

func (w *worker) do(ctx context.Context, n *node) error {
	d := w.run.d.Source
	if (n.kind == nodeRun || n.kind == nodeVerify) && w.run.isDamaged(n.table) {
		return nil
	}
	if w.refersToDamaged(n) {
		w.run.warn(n.entry.String(), "left out: rows that it refers to are missing", "")
		return nil
	}
	switch n.kind {
	case nodeRun:
		return w.loadRun(ctx, n.table, n.run)
	case nodeVerify:
		return w.verifyTable(ctx, n.table, n.part)
	case nodeVerifyTree:
		return w.verifyTree(ctx, n.tree)
	case nodeEntry:
		return w.entry(ctx, n)
	case nodeSequences:
		return w.sequences(ctx, d.Sequences)
	case nodeObjects:
		return w.loadObjects(ctx, d.LargeObjects)
	case nodeVerifyObjects:
		return w.verifyObjects(ctx, d.LargeObjects)
	case nodeStatements:
		return w.statements(ctx, d.Statements)
	case nodeAnalyze:
		return w.analyzeOne(ctx, n.of)
	}
	return nil
}

// loadRun loads one run of a table's rows.
func (w *worker) loadRun(ctx context.Context, t *table, run *repo.Run) error {
	if t.tree != nil && t.LoadViaRoot {
		return w.copyRun(ctx, t, run, t.tree.relation, false)
	}
	err := w.copyRun(ctx, t, run, t.relation, t.replica)
	e, ok := errors.AsType[*pgconn.PgError](err)
	// A violated partition constraint has no name, unlike any other check.
	if !ok || e.Code != "23514" || e.ConstraintName != "" || t.tree == nil || ctx.Err() != nil {
		return err
	}
	// These rows belong to another partition here: hashing or collation differ.
	// Other partitions may have their triggers already, which must not fire.
	w.run.reroute(t.tree)
	w.run.warn("table "+t.String(), "its rows belong to other partitions on this server and were routed again", "")
	return w.copyRun(ctx, t, run, t.tree.relation, w.replicaRole())
}

// copyRun streams a run into a relation. With replica set, triggers and foreign
// keys are off meanwhile.
func (w *worker) copyRun(ctx context.Context, t *table, run *repo.Run, into relation, replica bool) (err error) {
	var rows, bytes int64
	r := stream.OpenRun(ctx, w.run.o.Source, run, func(n, b int64) {
		rows, bytes = rows+n, bytes+b
		w.run.progress.loaded(t.relation, n, b)
	})
	defer func() {
		r.Close() // the connection may be lost with a read still under way: it ends first
		if err != nil {
			w.run.progress.loaded(t.relation, -rows, -bytes)
		}
	}()
	q := "COPY " + into.quoted() + parenthesized(columnList(t.Columns)) + " FROM STDIN"
	if run.Binary {
		q += " (FORMAT binary)"
	}
	if replica {
		if err := w.conn.Exec(ctx, "BEGIN; SET LOCAL session_replication_role = replica"); err != nil {
			return err
		}
		defer func() {
			end := "COMMIT"
			if err != nil {
				end = "ROLLBACK"
			}
			if e := w.conn.Exec(ctx, end); err == nil {
				err = e // after a failure the first error says more
			}
		}()
	}
	n, err := w.conn.CopyIn(ctx, q, r)
	if err == nil && n != run.Rows {
		err = fmt.Errorf("the server took %d rows of %d: %w", n, run.Rows, errs.Corrupt)
	}
	return err
}

// preData executes what comes before the rows, and makes of a new database what
// the source was without being said in the archive. Of a database in use nothing
// but what the archive says is touched.
func (w *worker) preData(ctx context.Context) error {
	if w.run.d.Live != nil {
		return w.preDataEntries(ctx)
	}
	for _, q := range removed(w.run.d.Source, w.run.plan.Request.NoOwner) {
		if err := w.conn.Exec(ctx, q); postgres.Code(err) == "42501" && !w.conn.Superuser {
			w.run.warn("database "+w.run.d.Target.Display(), "the source has no such object and it could not be dropped here: "+q, q)
		} else if err != nil {
			return fmt.Errorf("remove what the source does not have: %w", err)
		}
	}
	if err := w.preDataEntries(ctx); err != nil {
		return err
	}
	if w.run.plan.Request.NoOwner {
		return nil
	}
	for _, q := range schemaPublic(w.run.d.Source, w.conn.Version) {
		if err := w.conn.Exec(ctx, q); err != nil {
			return fmt.Errorf("restore schema public: %w", err)
		}
	}
	return nil
}

// preDataEntries executes the entries before the rows, in the archive's order.
func (w *worker) preDataEntries(ctx context.Context) error {
	a := w.run.archive
	for i := range a.Entries {
		e := &a.Entries[i]
		if a.PhaseOf(e) != pgarchive.PreData || e.IsPrivilege() {
			continue
		}
		if err := w.execute(ctx, e); err != nil {
			return fmt.Errorf("restore %s: %w", e, err)
		}
	}
	return nil
}

// entry executes an entry of the graph.
func (w *worker) entry(ctx context.Context, n *node) error {
	if n.class == classIndex || n.class == classForeign {
		// While there is work for all sessions, more processes for one gain nothing.
		parallel := 0
		if n.class == classIndex && w.run.sched.few(w.run.jobs) {
			parallel = 2
		}
		heap := n.cost * int64(w.run.content.Instance.BlockSize)
		if err := w.maintenance(ctx, memoryFor(n.entry, heap, parallel, clampMemory(w.run.o.Memory, w.run.jobs)), parallel); err != nil {
			return err
		}
	}
	if n.entry.Desc == "MATERIALIZED VIEW DATA" {
		if err := w.queries(ctx, !w.run.sched.few(w.run.jobs)); err != nil {
			return err
		}
	}
	for i := 1; ; i++ {
		err := w.execute(ctx, n.entry)
		if err == nil || i == tries || ctx.Err() != nil {
			return w.tolerate(ctx, n.entry, err)
		}
		// 40P01 is a deadlock; XX000 is "tuple concurrently updated", which two
		// grants about one object can give each other. Both leave nothing behind.
		if code := postgres.Code(err); code != "40P01" && (code != postgres.CodeInternal || !n.entry.IsPrivilege()) {
			return w.tolerate(ctx, n.entry, err)
		}
	}
}

// maintenance sets the memory and the processes of what follows.
func (w *worker) maintenance(ctx context.Context, memory int64, parallel int) error {
	if memory == w.memory && parallel == w.parallel {
		return nil
	}
	w.memory, w.parallel = memory, parallel
	return w.conn.Exec(ctx, fmt.Sprintf("SET maintenance_work_mem = '%dkB'; SET max_parallel_maintenance_workers = %d", memory>>10, parallel))
}

// queries sets whether the server may help the session's queries with more
// processes. Beside other work that costs more than it gains, as for indexes.
func (w *worker) queries(ctx context.Context, alone bool) error {
	if alone == w.alone {
		return nil
	}
	w.alone = alone
	if alone {
		return w.conn.Exec(ctx, "SET max_parallel_workers_per_gather = 0")
	}
	return w.conn.Exec(ctx, "RESET max_parallel_workers_per_gather")
}

// tolerate turns failures that cost nothing of the data into warnings: a
// materialized view that cannot be filled here (it may read another server) can
// be refreshed later, a comment on an extension belongs to who installed it.
func (w *worker) tolerate(ctx context.Context, e *pgarchive.Entry, err error) error {
	if err == nil || ctx.Err() != nil || w.conn.Lost() || postgres.Code(err) == "" {
		return err
	}
	switch {
	case e.Desc == "MATERIALIZED VIEW DATA":
		name := relation{e.Namespace, e.Tag}
		w.run.warn("materialized view "+name.String(), "could not be filled: "+err.Error(), "REFRESH MATERIALIZED VIEW "+name.quoted()+";")
		return nil
	case e.Desc == "COMMENT" && postgres.Code(err) == "42501" && !w.conn.Superuser:
		w.run.warn(e.String(), "not restored: "+err.Error(), "")
		return nil
	}
	return err
}

// execute runs an entry's statements and gives what it makes to its owner.
func (w *worker) execute(ctx context.Context, e *pgarchive.Entry) error {
	if e.Tablespace != w.tablespace {
		if err := w.conn.Exec(ctx, "SET default_tablespace = "+sqltext.Literal(e.Tablespace)); err != nil {
			return err
		}
		w.tablespace = e.Tablespace
	}
	if e.TableAM != "" && e.TableAM != w.method && e.RelKind != 'p' {
		if err := w.conn.Exec(ctx, "SET default_table_access_method = "+e.TableAM.Quote()); err != nil {
			return err
		}
		w.method = e.TableAM
	}
	sql := withoutInternal(e.Defn)
	if q := e.AccessMethodStatement(); q != "" && w.conn.Version.Major() >= 17 {
		sql += "\n" + q
	}
	if q := e.OwnerStatement(); q != "" && !w.run.plan.Request.NoOwner {
		sql += "\n" + q
	}
	if sql == "" {
		return nil
	}
	// One message is one transaction: after a failure nothing of it is there.
	return w.conn.Exec(ctx, sql)
}

// statements executes what stands in for what pg_dump left out.
func (w *worker) statements(ctx context.Context, all []string) error {
	for _, q := range all {
		if w.run.plan.Request.NoOwner && plan.IsOwnerStatement(q) {
			continue
		}
		err := w.conn.Exec(ctx, q)
		if postgres.Code(err) == "42501" && !w.conn.Superuser && strings.HasPrefix(q, "COMMENT ") {
			w.run.warn("comment", "not restored: "+err.Error(), "")
		} else if err != nil {
			return err // without the statement: it has passwords in it
		}
	}
	return nil
}

// quietTriggers keeps event triggers, which a database may have by then, from
// running in the statements that follow in the same message.
func quietTriggers(c *postgres.Conn) string {
	if !c.Superuser {
		return ""
	}
	return "SET session_replication_role = replica; "
}

// disableSubscriptions makes sure that nothing restored begins to act by itself.
func (w *worker) disableSubscriptions(ctx context.Context) error {
	var name pg.Name
	var enabled bool
	var all []pg.Name
	err := w.conn.Each(ctx, `SELECT subname::text, subenabled FROM pg_catalog.pg_subscription
		WHERE subdbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())`,
		nil, []any{&name, &enabled}, func() error {
			w.run.warn("subscription "+name.Display(), "was restored disabled", "when it may act here: ALTER SUBSCRIPTION "+name.Quote()+" ENABLE;")
			if enabled {
				all = append(all, name)
			}
			return nil
		})
	for _, name := range all {
		if err == nil {
			err = w.conn.Exec(ctx, quietTriggers(w.conn)+"ALTER SUBSCRIPTION "+name.Quote()+" DISABLE")
		}
	}
	if err != nil {
		return fmt.Errorf("disable subscriptions: %w", err)
	}
	return nil
}
