package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgarchive"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// restore is the restore of one database.
type restore struct {
	*Restore
	d          *plan.DatabasePlan
	archive    *pgarchive.Archive
	progress   *progress
	compareSQL string
	graph      *graph
	sched      *scheduler
	oid        uint32 // of the database that was made

	readBack   bool // every table
	statistics analysis

	mu       sync.Mutex
	problems []repo.Problem
	verified map[*table]bool // equal: true when read back, false when compared on the way in
	late     map[*table]bool // loaded, in part, after everything else
	rerouted map[*tree]bool
	// seen, faults and difference are what compare sums up.
	seen       Compared
	faults     map[*table]TableResult
	difference error
	damaged    map[*table]bool
}

// database restores one database; see the package comment for the order of its
// steps.
func (r *Restore) database(ctx context.Context, d *plan.DatabasePlan, p *progress) (job.DatabaseResult, []repo.Problem, error) {
	p.started = time.Now()
	one := &restore{Restore: r, d: d, progress: p, readBack: r.readsBack(), verified: map[*table]bool{}, late: map[*table]bool{}, rerouted: map[*tree]bool{}, damaged: map[*table]bool{}}
	err := one.run(ctx)
	if err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	result := job.DatabaseResult{
		Database: d.Source.Name.Display(), Target: d.Target.Display(), Complete: err == nil && !one.short(), Tables: int64(d.Tables),
		Rows: p.rows.Load(), PlainBytes: p.bytes.Load(), Duration: time.Since(p.started),
	}
	for _, readBack := range one.verified {
		if readBack {
			result.TablesVerified++
		} else {
			result.TablesCompared++
		}
	}
	r.compared = append(r.compared, one.compare())
	p.set(job.PhaseDone)
	if err != nil {
		err = fmt.Errorf("restore database %s: %w", d.Target.Display(), err)
		result.Err = err.Error()
		p.fail()
	}
	return result, one.problems, err
}

func (r *restore) run(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.progress.set(job.PhaseSchema)
	var err error
	if r.archive, err = r.plan.Archive(ctx, r.o.Source, r.d); err != nil {
		return err
	}
	if r.d.Live != nil {
		return r.runLive(ctx)
	}
	if err := r.create(ctx); err != nil {
		return err
	}
	if err = r.fill(ctx); err == nil {
		err = r.finish(ctx)
	}
	if err == nil {
		return nil
	}
	return r.cleanUp(ctx, err)
}

// fill does everything inside the new database. No session in it is left when
// it returns.
func (r *restore) fill(ctx context.Context) error {
	first, err := r.connect(ctx)
	if err != nil {
		return err
	}
	// The others begin when there is something for them to do.
	workers := []*worker{first}
	defer func() {
		for _, w := range workers {
			w.conn.Close(ctx)
		}
	}()
	if err := first.preData(ctx); err != nil {
		return err
	}
	if err := r.buildGraph(ctx, first); err != nil {
		return err
	}
	r.seen.Schema = time.Since(r.progress.started)
	r.progress.set(job.PhaseData)
	for range min(r.jobs, len(r.graph.nodes)) - 1 {
		w, err := r.connect(ctx)
		if errors.Is(err, errs.Busy) { // no connection left: those that there are do it all
			r.o.Reporter.Log("warn", fmt.Sprintf("restore with %d sessions: %v", len(workers), err))
			break
		}
		if err != nil {
			return err
		}
		workers = append(workers, w)
	}
	group, gctx := errgroup.WithContext(ctx)
	for _, w := range workers {
		group.Go(func() error { return w.work(gctx) })
	}
	err = group.Wait()
	if r.difference != nil {
		return r.difference // what failed after it commonly failed because of it
	}
	if err != nil {
		return err
	}
	if err := r.emptyDamaged(ctx, first); err != nil {
		return err
	}
	if r.d.Live == nil { // those of a database in use are its own
		if err := first.disableSubscriptions(ctx); err != nil {
			return err
		}
	}
	if r.plan.Request.NoAnalyze {
		return nil
	}
	began := time.Now()
	err = r.analyze(ctx, workers)
	r.seen.Statistics += time.Since(began)
	return err
}

// buildGraph reads from the new database how its tables hang together.
func (r *restore) buildGraph(ctx context.Context, w *worker) error {
	in := graphInput{
		database: r.d.Source, archive: r.archive, noOwner: r.plan.Request.NoOwner, parts: r.jobs, blockSize: r.content.Instance.BlockSize,
		children: map[relation][]relation{}, references: map[relation][]relation{},
		jobs: r.jobs, superuser: w.conn.Superuser, analyze: !r.plan.Request.NoAnalyze,
	}
	if w.conn.Version.Major() < 14 {
		in.parts = 1 // a range of positions is read by reading the whole table
	}
	var a, b relation
	dest := []any{&a.schema, &a.name, &b.schema, &b.name}
	const pairs = ` JOIN pg_catalog.pg_class a ON a.oid = x.%s JOIN pg_catalog.pg_namespace an ON an.oid = a.relnamespace
		JOIN pg_catalog.pg_class b ON b.oid = x.%s JOIN pg_catalog.pg_namespace bn ON bn.oid = b.relnamespace `
	const names = "SELECT an.nspname::text, a.relname::text, bn.nspname::text, b.relname::text FROM "
	err := w.conn.Each(ctx, names+"pg_catalog.pg_inherits x"+fmt.Sprintf(pairs, "inhparent", "inhrelid")+
		"WHERE a.relkind IN ('r', 'p') AND b.relkind IN ('r', 'p') ORDER BY x.inhparent, x.inhrelid", nil, dest, func() error {
		in.children[a] = append(in.children[a], b)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read inheritance: %w", err)
	}
	err = w.conn.Each(ctx, names+"pg_catalog.pg_constraint x"+fmt.Sprintf(pairs, "conrelid", "confrelid")+
		"WHERE x.contype = 'f' ORDER BY x.oid", nil, dest, func() error {
		in.references[a] = append(in.references[a], b)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read foreign keys: %w", err)
	}
	if r.graph, err = newGraph(in); err != nil {
		return err
	}
	r.progress.expect(r.graph)
	r.sched = newScheduler(r.graph)
	return nil
}

// connect opens a session for loading in the new database.
func (r *restore) connect(ctx context.Context) (*worker, error) {
	conn, err := postgres.Connect(ctx, r.o.Config, r.d.Temporary, plan.Application)
	if err != nil {
		return nil, err
	}
	w := &worker{run: r, conn: conn}
	if err := w.begin(ctx); err != nil {
		conn.Close(ctx)
		return nil, err
	}
	return w, nil
}

// begin applies the settings under which rows are loaded and entries executed.
func (w *worker) begin(ctx context.Context) error {
	c := w.conn
	if err := c.Apply(ctx, postgres.LoadSession(c.Version, c.Superuser)); err != nil {
		return err
	}
	for _, q := range w.run.archive.Session() {
		if err := c.Exec(ctx, q); err != nil {
			return fmt.Errorf("apply the archive's settings: %w", err)
		}
	}
	if w.run.compareSQL == "" { // set by the first session, before there are others
		w.run.compareSQL = compareSQL(w.run.d.Source.Session, postgres.SourceSession(c.Version, c.Superuser))
	}
	if w.run.d.Live != nil && c.Superuser {
		// Event triggers of a database in use are not about what comes into a side schema.
		if err := c.Exec(ctx, "SET session_replication_role = replica"); err != nil {
			return err
		}
	}
	// default_tablespace may have been set for the role; entries assume the standard.
	if err := c.Exec(ctx, "SET default_tablespace = ''"); err != nil {
		return err
	}
	return w.maintenance(ctx, clampMemory(w.run.o.Memory, w.run.jobs), 0)
}

// routed tells whether rows of the tree go through its root.
func (r *restore) routed(t *tree) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return t.viaRoot || r.rerouted[t]
}

func (r *restore) reroute(t *tree) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rerouted[t] = true
}

// readsBack tells whether all tables are read back.
func (r *Restore) readsBack() bool {
	return r.plan.Request.ReadBack || r.content.Instance.Version.Major() != r.plan.Target.Version.Major()
}

// putOff notes that rows of a table are loaded after everything else.
func (r *restore) putOff(t *table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late[t] = true
}

// equal notes that a table was compared, and whether it was read back for that.
func (r *restore) equal(t *table, readBack bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.verified[t]; !ok {
		r.progress.tables.Add(1)
	}
	r.verified[t] = r.verified[t] || readBack
}

func (r *restore) warn(object, reason, hint string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, repo.Problem{Severity: "warning", Database: r.d.Target, Object: object, Reason: reason, Hint: hint})
}

// cleanUp removes the half-made database after a failure, also when ctx has ended.
func (r *restore) cleanUp(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	admin, err := r.admin(ctx)
	if err == nil {
		defer admin.Close(ctx)
		err = r.drop(ctx, admin, r.d.Temporary)
	}
	if err != nil {
		left := fmt.Errorf("the half-made database %s is still there: %w", r.d.Temporary.Display(), err)
		return postgres.WithHint(fmt.Errorf("%w; %w", cause, left), "once the server is back: "+dropStatement(r.d.Temporary))
	}
	r.o.Reporter.Log("warn", "dropped the half-made database "+r.d.Temporary.Display())
	return postgres.WithHint(fmt.Errorf("%w (the half-made database %s was dropped)", cause, r.d.Temporary.Display()), postgres.Hint(cause))
}

// settings gives the settings of the database, of all roles first.
func (r *restore) settings() ([]dbSetting, error) {
	var all []dbSetting
	for _, raw := range r.d.Source.Settings {
		var s repo.SettingFacts
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("settings of the database: %w: %w", err, errs.Corrupt)
		}
		for _, text := range s.Settings {
			all = append(all, dbSetting{s.Role, text})
		}
	}
	return all, nil
}

// replicaRole tells whether the session may turn triggers and foreign keys off.
func (w *worker) replicaRole() bool { return w.conn.Superuser }
