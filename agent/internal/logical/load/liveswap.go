package load

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/logical/plan"
	"github.com/tuskvault/tuskvault/agent/internal/logical/selection"
	"github.com/tuskvault/tuskvault/agent/internal/logical/sqltext"
	"github.com/tuskvault/tuskvault/agent/internal/logical/stream"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

const (
	// lockTry bounds one wait for the locks: whoever comes after us waits as long.
	// It is below the server's usual deadlock_timeout of 1 s, so that we give way
	// before a deadlock costs somebody else's transaction.
	lockTry = 200 * time.Millisecond
	// lockPause is the pause between two tries, in which everybody else goes on.
	lockPause = 500 * time.Millisecond
	// lockPatience bounds all tries.
	lockPatience = 30 * time.Second
)

// replaceRows replaces the rows of live tables by the staged and compared ones, in
// one transaction:
//
//  1. Writers are kept out of the tables and of those that foreign keys tie to
//     them; readers are not. The wait is bounded, and given up and begun again so
//     that nobody queues behind it for long.
//  2. The tables are looked at again: what was planned must still hold.
//  3. The schema that keeps the old rows is made and filled.
//  4. Old rows are deleted, staged ones inserted, with triggers and foreign keys
//     off for the session. The tables themselves, and so their views, privileges,
//     policies and publications, stay.
//  5. The tables are read back and compared with the manifest.
//  6. Every valid foreign key from and to the tables is checked.
//  7. Sequences move forward; see forward.
//  8. The staging schema is dropped, and the comment says done.
//
// Before the commit nobody else sees anything of it, and a crash undoes it, but for
// sequences that are ahead; after it there is nothing left to do.
func (r *restore) replaceRows(ctx context.Context) error {
	l := r.d.Live
	c, err := r.liveConn(ctx, r.d)
	if err != nil {
		return err
	}
	defer func() { c.Close(ctx) }()
	if err := r.checkStaged(ctx, c); err != nil {
		return err
	}
	r.progress.set(job.PhaseReplacing)
	for began := time.Now(); ; {
		err := r.swapRows(ctx, c)
		if err == nil {
			break
		}
		if ok, e := r.liveLanded(ctx, c); e != nil {
			return fmt.Errorf("%w; %w", err, e)
		} else if ok {
			break
		}
		code := postgres.Code(err)
		if ctx.Err() != nil || c.Lost() || code != postgres.CodeLockNotAvailable && code != "40P01" || time.Since(began) > lockPatience {
			return r.blocked(ctx, c, err)
		}
		if err := pause(ctx, lockPause); err != nil {
			return err
		}
	}
	r.warn("schema "+l.Schema.Display(), "keeps the rows that were replaced", "when they are not needed any more, in database "+r.d.Target.Display()+": "+l.DropCommand())
	if !c.Lost() {
		r.analyzeLive(ctx, c)
	}
	return nil
}

// pause waits, or gives the reason why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// swapRows is one try of the transaction.
func (r *restore) swapRows(ctx context.Context, c *postgres.Conn) error {
	if err := c.Exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"); err != nil {
		return err
	}
	err := r.swapSteps(ctx, c)
	if err == nil {
		return c.Exec(ctx, "COMMIT")
	}
	_ = c.Exec(context.WithoutCancel(ctx), "ROLLBACK") // the first error says more; a lost connection rolls back by itself
	return err
}

func (r *restore) swapSteps(ctx context.Context, c *postgres.Conn) error {
	l := r.d.Live
	if err := r.lockLive(ctx, c); err != nil {
		return err
	}
	if err := r.lookAgain(ctx, c); err != nil {
		return err
	}
	err := c.Exec(ctx, "SET LOCAL synchronous_commit = on; SET LOCAL session_replication_role = replica; CREATE SCHEMA "+l.Schema.Quote())
	if err != nil {
		return err
	}
	for _, u := range l.Units {
		if err := c.Exec(ctx, strings.Join(swapStatements(l, u, r.tableOf(u)), "; ")); err != nil {
			return fmt.Errorf("replace the rows of table %s: %w", u.Live, err)
		}
	}
	// Under these settings rows are the same text as in the snapshot; checks of the
	// tables have seen the database's own.
	if err := c.Exec(ctx, localSettings(r.d.Source.Session, postgres.SourceSession(c.Version, c.Superuser))); err != nil {
		return err
	}
	for _, u := range l.Units {
		if err := r.compareLive(ctx, c, u); err != nil {
			return err
		}
	}
	for _, k := range l.Keys {
		if err := checkKey(ctx, c, k, only(k.From.Quoted(), k.FromPart), only(k.To.Quoted(), k.ToPart)); err != nil {
			return err
		}
	}
	if err := r.forward(ctx, c); err != nil {
		return err
	}
	comment := plan.MarkDone(r.id) + "rows that were replaced by those of " + r.snapshotName() + "; to drop them: " + l.DropCommand()
	return c.Exec(ctx, "DROP SCHEMA "+l.Staging.Quote()+" CASCADE; COMMENT ON SCHEMA "+l.Schema.Quote()+" IS "+sqltext.Literal(pg.Name(comment)))
}

// tableOf gives what is known of a unit's live table.
func (r *restore) tableOf(u selection.Unit) *plan.LiveTable {
	return r.d.Chosen.Live.Tables[u.Live]
}

// only keeps a query to one table, unless it is partitioned and has no rows of its own.
func only(quoted string, partitioned bool) string {
	if partitioned {
		return quoted
	}
	return "ONLY " + quoted
}

// lockLive keeps writers out. EXCLUSIVE lets readers through and nobody else.
func (r *restore) lockLive(ctx context.Context, c *postgres.Conn) error {
	units, neighbours := locked(r.d.Live)
	q := fmt.Sprintf("SET LOCAL lock_timeout = '%dms'", lockTry.Milliseconds())
	for _, u := range units {
		q += "; LOCK TABLE " + u + " IN EXCLUSIVE MODE"
	}
	for _, n := range neighbours {
		q += "; LOCK TABLE " + n + " IN SHARE ROW EXCLUSIVE MODE"
	}
	if err := c.Exec(ctx, q+"; SET LOCAL lock_timeout = 0"); err != nil {
		return fmt.Errorf("lock the tables: %w", err)
	}
	return nil
}

// lookAgain sees that the tables are what was planned with.
func (r *restore) lookAgain(ctx context.Context, c *postgres.Conn) error {
	l := r.d.Live
	f := &plan.LiveFacts{}
	if err := f.ReadTables(ctx, c, plan.LiveNames(l.Units)); err != nil {
		return err
	}
	keys := 0
	for _, u := range l.Units {
		t := f.Tables[u.Live]
		if was := r.tableOf(u); t == nil || t.OID != was.OID || t.Kind != was.Kind {
			return fmt.Errorf("table %s is another one than when the restore was planned: %w", u.Live, errs.Conflict)
		}
		for _, x := range plan.Judge(u, t) {
			return fmt.Errorf("%s: %s: %w", x.Object, x.Reason, errs.Conflict)
		}
		for _, k := range t.ForeignKeys {
			if !slices.Contains(l.Keys, k) {
				return fmt.Errorf("%s has changed since the restore was planned: %w", k, errs.Conflict)
			}
		}
		keys += len(t.ForeignKeys)
	}
	return nil
}

// swapStatements keep the old rows of a unit and put the staged ones in their place.
func swapStatements(l *plan.LivePlan, u selection.Unit, t *plan.LiveTable) []string {
	columns := columnList(u.Columns)
	live := only(u.Live.Quoted(), t.Kind == "p")
	kept := l.Schema.Quote() + "." + u.Kept.Quote()
	all := []string{
		"CREATE TABLE " + kept + " (LIKE " + u.Live.Quoted() + " INCLUDING GENERATED INCLUDING STORAGE)",
		"INSERT INTO " + kept + " (" + columns + ") SELECT " + columns + " FROM " + live,
		"DELETE FROM " + live,
	}
	for _, s := range u.Staged {
		all = append(all, "INSERT INTO "+u.Live.Quoted()+" ("+columns+") OVERRIDING SYSTEM VALUE SELECT "+columns+" FROM "+relation{s.Schema, s.Name}.quoted())
	}
	return all
}

// compareLive reads a table back within the transaction.
func (r *restore) compareLive(ctx context.Context, c *postgres.Conn, u selection.Unit) error {
	var wantText, wantBinary stream.RowSum
	var wide string
	for _, s := range u.Staged {
		text, binary, w := (&table{Table: s}).expected()
		wantText.Add(text)
		wantBinary.Add(binary)
		if w != "" {
			wide = w
		}
	}
	w := &worker{run: r, conn: c, within: true}
	live := only(u.Live.Quoted(), r.tableOf(u).Kind == "p")
	text, binary, err := w.readBack(ctx, "FROM "+live, "", u.Columns, "", "", wide)
	if err != nil {
		return fmt.Errorf("read %s back: %w", u.Live, err)
	}
	return differs(u.Live.String(), wantText, text, wantBinary, binary)
}

// violations bounds how many rows that violate a key are counted.
const violations = 1000

// checkKey sees that every row that refers to something finds it. from and to are
// what stands for the two tables.
func checkKey(ctx context.Context, c *postgres.Conn, k plan.ForeignKey, from, to string) error {
	if !k.Validated {
		return nil
	}
	var n int64
	err := c.One(ctx, &n, fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM %s f LEFT JOIN %s p ON (%s) WHERE (%s) AND %s LIMIT %d) x", from, to, k.Join, k.Filled, k.Absent, violations))
	if err != nil {
		return fmt.Errorf("check %s: %w", k, err)
	}
	if n == 0 {
		return nil
	}
	count := fmt.Sprint(n)
	if n == violations {
		count += " or more"
	}
	return postgres.WithHint(fmt.Errorf("%s would be violated by %s rows: %w", k, count, errs.Conflict),
		"restore both tables together, or bring this one in beside (without --replace)")
}

// checkStaged checks the foreign keys with the staged rows in place of the live
// ones, before anybody is kept out: what is known to fail is not begun.
func (r *restore) checkStaged(ctx context.Context, c *postgres.Conn) error {
	l := r.d.Live
	staged := map[string]string{}
	for _, u := range l.Units {
		var all []string
		for _, s := range u.Staged {
			all = append(all, "SELECT "+columnList(u.Columns)+" FROM "+relation{s.Schema, s.Name}.quoted())
		}
		staged[u.Live.Quoted()] = "(" + strings.Join(all, " UNION ALL ") + ")"
	}
	for _, k := range l.Keys {
		from, ok := staged[k.From.Quoted()]
		to, ok2 := staged[k.To.Quoted()]
		if !ok && !ok2 {
			continue // of a table above in a partition tree: it is checked in the end
		}
		if !ok {
			from = only(k.From.Quoted(), k.FromPart)
		}
		if !ok2 {
			to = only(k.To.Quoted(), k.ToPart)
		}
		if err := checkKey(ctx, c, k, from, to); err != nil {
			return err
		}
	}
	return nil
}

// forward moves sequences to where they were in the snapshot, if that is ahead.
// They never go back: numbers that were given out since may be known elsewhere.
// A sequence is not part of a transaction; one that is ahead harms nothing.
func (r *restore) forward(ctx context.Context, c *postgres.Conn) error {
	for _, s := range r.d.Live.Sequences {
		name := relation{s.Schema, s.Name}
		var increment int64
		found := false
		err := c.Each(ctx, "SELECT s.seqincrement FROM pg_catalog.pg_sequence s WHERE s.seqrelid = pg_catalog.to_regclass($1)::pg_catalog.oid", []any{name.quoted()}, []any{&increment}, func() error {
			found = true
			return nil
		})
		if err != nil {
			return fmt.Errorf("sequence %s: %w", name, err)
		}
		if !found {
			r.warn("sequence "+name.String(), "does not exist in the live database and was not set", "")
			continue
		}
		var last int64
		var called bool
		err = c.Each(ctx, "SELECT last_value, is_called FROM "+name.quoted(), nil, []any{&last, &called}, func() error { return nil })
		if err == nil && ahead(s.LastValue, s.IsCalled, last, called, increment) {
			err = c.Exec(ctx, fmt.Sprintf("SELECT pg_catalog.setval(%s::pg_catalog.regclass, %d, %t)", sqltext.Literal(pg.Name(name.quoted())), s.LastValue, s.IsCalled))
		}
		if err != nil {
			return fmt.Errorf("sequence %s: %w", name, err)
		}
	}
	return nil
}

// ahead tells whether one state of a sequence comes after another.
func ahead(value int64, called bool, than int64, thanCalled bool, increment int64) bool {
	if value == than {
		return called && !thanCalled
	}
	return (value > than) == (increment > 0)
}

// blocked adds who holds the locks to the error of a wait that was given up.
func (r *restore) blocked(ctx context.Context, c *postgres.Conn, err error) error {
	if postgres.Code(err) != postgres.CodeLockNotAvailable || c.Lost() || ctx.Err() != nil {
		return err
	}
	units, neighbours := locked(r.d.Live)
	var names []pg.Name
	for _, q := range append(units, neighbours...) {
		names = append(names, pg.Name(q))
	}
	var who []string
	var pid int64
	var user, state pg.Name
	e := c.Each(ctx, `SELECT DISTINCT a.pid::int8, coalesce(a.usename::text, ''), coalesce(a.state, '') FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
		WHERE l.granted AND l.mode NOT IN ('AccessShareLock') AND l.pid <> pg_catalog.pg_backend_pid() AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
		AND l.relation IN (SELECT pg_catalog.to_regclass(n)::pg_catalog.oid FROM pg_catalog.unnest(ARRAY[`+sqltext.Literals(names)+`]::text[]) n) LIMIT 5`, nil, []any{&pid, &user, &state}, func() error {
		who = append(who, fmt.Sprintf("pid %d (%s, %s)", pid, user.Display(), state))
		return nil
	})
	if e != nil || len(who) == 0 {
		return err
	}
	return postgres.WithHint(fmt.Errorf("%w; held by %s", err, strings.Join(who, ", ")), "end these sessions' transactions, or restore at a quieter time")
}
