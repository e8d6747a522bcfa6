package dump

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Bounds of the locking loop.
const (
	// listTries is how often locking starts over because tables came and went.
	listTries = 5
	// oneLockWait bounds one wait for a lock. Meanwhile all locks taken so far
	// are held; then they are let go and it starts over, so that two who wait for
	// each other both get on.
	oneLockWait = 10 * time.Second
	// lockBatch is how many tables one LOCK TABLE names.
	lockBatch = 500
	// openTries is how often a database is opened when its schema changes under
	// pg_dump; where the change is queued before pg_dump, as often as the wait for
	// locks lasts.
	openTries = 2
)

// coordinator is the session that holds a database's locks and exports its
// snapshot. One goroutine at a time uses it.
type coordinator struct {
	run  *run
	d    *database
	conn *postgres.Conn
}

// open brings a database to the point where workers can read it. On an error
// nothing is left open.
func (r *run) open(d *database) (*coordinator, error) {
	late := time.Now().Add(r.o.Request.LockWait)
	for try := 0; ; try++ {
		c, err := r.tryOpen(d)
		if err == nil {
			return c, nil
		}
		if d.ctx.Err() != nil {
			return nil, context.Cause(d.ctx)
		}
		if isUpload(err) || errors.Is(err, errs.Denied) || errors.Is(err, errs.Conflict) || len(d.refused) > 0 || errors.Is(err, errLockWait) {
			return nil, err // trying again changes nothing, or was done already
		}
		if try+1 >= openTries && (!errors.Is(err, errQueued) || time.Now().After(late)) {
			return nil, err
		}
		if try == 0 {
			r.o.Reporter.Log("warn", fmt.Sprintf("database %s: trying again: %v", d.info.Name.Display(), err))
		}
	}
}

func (r *run) tryOpen(d *database) (_ *coordinator, err error) {
	conn, err := postgres.Connect(d.ctx, r.o.Config, d.info.Name, r.application("coordinator"))
	if err != nil {
		return nil, err
	}
	c := &coordinator{run: r, d: d, conn: conn}
	d.setPID(conn.PID())
	defer func() {
		if err != nil {
			d.setPID(0)
			conn.Close(d.ctx)
		}
	}()
	d.warned, d.refused = nil, nil // of an earlier try
	if err := c.checkServer(); err != nil {
		return nil, err
	}
	if err := conn.Apply(d.ctx, postgres.SourceSession(conn.Version, conn.Superuser)); err != nil {
		return nil, err
	}
	for _, step := range []func() error{c.preflight, c.lockAll, c.readFacts, c.readArchive, c.readContents} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	d.items = plan(d, c.run.o.split, conn.Version, r.inv.BlockSize, r.o.Request.Workers)
	d.left = len(d.items)
	d.own = make(chan *item, len(d.items)) // never blocks: an item is handed over at most once
	d.track()
	d.total.Store(0)
	d.tablesTotal.Store(0)
	for _, i := range d.items {
		d.total.Add(i.size)
	}
	for _, t := range d.tables {
		if len(t.items) > 0 {
			d.tablesTotal.Add(1)
		}
	}
	if d.left == 0 {
		close(d.done)
	}
	d.setPhase(job.PhaseData)
	return c, nil
}

// checkServer makes sure that this is the server whose facts were read: an
// address can lead to another one after a failover.
func (c *coordinator) checkServer() error {
	var id int64
	if err := c.conn.One(c.d.ctx, &id, "SELECT system_identifier::text::int8 FROM pg_catalog.pg_control_system()"); err != nil {
		return err
	}
	if uint64(id) != c.run.inv.SystemIdentifier {
		return fmt.Errorf("database %s: connected to another server (system identifier %d, was %d): %w",
			c.d.info.Name.Display(), uint64(id), c.run.inv.SystemIdentifier, errs.Conflict)
	}
	return nil
}

// preflight refuses a database that the role can read only in part.
func (c *coordinator) preflight() error {
	missing, err := c.conn.Preflight(c.d.ctx)
	if err != nil {
		return fmt.Errorf("database %s: check privileges: %w", c.d.info.Name.Display(), err)
	}
	if len(missing) == 0 {
		return nil
	}
	const most = 100 // problems told one by one
	var names []string
	for i, m := range missing {
		if i < most {
			c.d.refused = append(c.d.refused, repo.Problem{Severity: "error", Database: c.d.info.Name, Object: m.Object, Reason: m.Reason, Hint: m.Fix})
		}
		if i < 3 {
			names = append(names, m.Object)
		}
	}
	if more := len(missing) - most; more > 0 {
		c.d.refused = append(c.d.refused, repo.Problem{Severity: "error", Database: c.d.info.Name,
			Reason: fmt.Sprintf("and %d more objects that the role cannot read", more), Hint: "tuskvault-agent doctor"})
	}
	if more := len(missing) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return postgres.WithHint(fmt.Errorf("database %s: role cannot read %s: %s: %w", c.d.info.Name.Display(), strings.Join(names, ", "),
		missing[0].Reason, errs.Denied), missing[0].Fix)
}

// lockAll begins the transaction, locks every table and then exports the
// snapshot; see the package comment for why in this order.
func (c *coordinator) lockAll() error {
	d := c.d
	late := time.Now().Add(c.run.o.Request.LockWait)
	for try := 1; ; try++ {
		want, err := listRelations(d.ctx, c.conn)
		if err != nil {
			return fmt.Errorf("database %s: list tables: %w", d.info.Name.Display(), err)
		}
		c.remember(want)
		err = c.lockOnce(want, try >= listTries, late)
		if err == nil {
			return nil
		}
		if e := c.conn.Exec(d.ctx, "ROLLBACK"); e != nil {
			return e
		}
		code := postgres.Code(err)
		switch {
		case (errors.Is(err, errChanged) || missing(err)) && try < listTries:
		case code == postgres.CodeLockNotAvailable && time.Now().Before(late):
		case code == postgres.CodeOutOfMemory:
			return postgres.WithHint(fmt.Errorf("database %s: lock %d tables: %w", d.info.Name.Display(), len(want), err),
				fmt.Sprintf("raise max_locks_per_transaction (now %s)", c.run.inv.Settings["max_locks_per_transaction"]))
		default:
			return fmt.Errorf("database %s: %w", d.info.Name.Display(), err)
		}
	}
}

// errChanged tells that tables came, went or were rewritten while locking.
var errChanged = errors.New("tables kept changing while they were locked")

// errLockWait tells that waiting for a lock was given up.
var errLockWait = errors.New("gave up waiting")

func (c *coordinator) lockOnce(want []relation, last bool, late time.Time) error {
	ctx := c.d.ctx
	if err := c.conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return err
	}
	lock := c.lock
	if last {
		lock = c.lockThere
	}
	if err := lock(want, late); err != nil {
		return err
	}
	// LOCK TABLE, SET, SHOW and SAVEPOINT take no snapshot: the first statement that does is this.
	if err := c.conn.One(ctx, &c.d.exported, "SELECT pg_catalog.pg_export_snapshot()"); err != nil {
		return err
	}
	have, err := listRelations(ctx, c.conn)
	if err != nil {
		return err
	}
	// A table is locked by its name. If it has the name still, it was this table:
	// what was locked cannot have been renamed since, whatever it was.
	locked := make(map[uint32]string, len(want))
	for _, r := range want {
		locked[r.oid] = r.quoted()
	}
	var rest []relation
	for _, r := range have {
		if locked[r.oid] != r.quoted() {
			rest = append(rest, r)
		}
	}
	if len(rest) > 0 && last {
		return c.lockRest(rest, late)
	}
	if len(rest) > 0 || changed(have) != "" {
		return fmt.Errorf("%w: %w", errChanged, errs.Busy)
	}
	c.remember(have)
	return c.conn.Exec(ctx, "SET LOCAL lock_timeout = 0")
}

// lockRest locks tables that came while the others were locked, after the
// snapshot. That is sound if none of them was rewritten in between, which shows
// in its file, and if each still had the name by which it was locked.
func (c *coordinator) lockRest(rest []relation, late time.Time) error {
	if err := c.lock(rest, late); missing(err) {
		return fmt.Errorf("%w: %w: %w", errChanged, errs.Busy, err)
	} else if err != nil {
		return err
	}
	have, err := listRelations(c.d.ctx, c.conn)
	if err != nil {
		return err
	}
	if name := changed(have); name != "" {
		return fmt.Errorf("%w: %s: %w", errChanged, name, errs.Busy)
	}
	c.remember(have)
	return c.conn.Exec(c.d.ctx, "SET LOCAL lock_timeout = 0")
}

// missing tells that there was no table of the name to be locked: it was dropped
// or renamed, its schema too perhaps, or something else has its name.
func missing(err error) bool {
	switch postgres.Code(err) {
	case postgres.CodeUndefinedTable, postgres.CodeUndefinedSchema, postgres.CodeWrongObject:
		return true
	}
	return false
}

// lockThere locks relations one by one and leaves those out that are gone: where
// tables come and go all the time one of them is always missing. What is left
// out and still in the snapshot counts as one that came since.
func (c *coordinator) lockThere(all []relation, late time.Time) error {
	for i := range all {
		if err := c.conn.Exec(c.d.ctx, "SAVEPOINT tuskvault_lock"); err != nil {
			return err
		}
		after := "RELEASE SAVEPOINT tuskvault_lock"
		err := c.lock(all[i:i+1], late)
		if missing(err) {
			all[i].name, err = "", nil
			after = "ROLLBACK TO SAVEPOINT tuskvault_lock; " + after
		}
		if err == nil {
			err = c.conn.Exec(c.d.ctx, after)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changed names the first relation whose file or name is not that of the snapshot.
func changed(all []relation) string {
	for _, r := range all {
		if r.file != r.now || r.named != r.oid {
			return r.display()
		}
	}
	return ""
}

// lock locks relations, with a bounded wait, and names who holds one of them.
func (c *coordinator) lock(all []relation, late time.Time) error {
	wait := max(time.Millisecond, min(oneLockWait, time.Until(late)))
	if err := c.conn.Exec(c.d.ctx, "SET LOCAL lock_timeout = "+strconv.FormatInt(max(1, wait.Milliseconds()), 10)); err != nil {
		return err
	}
	blocker := c.run.watchBlocker(c.d, c.conn.PID(), nil)
	defer blocker.stop()
	for at := 0; at < len(all); at += lockBatch {
		var names []string
		for _, r := range all[at:min(at+lockBatch, len(all))] {
			names = append(names, "ONLY "+r.quoted())
		}
		err := c.conn.Exec(c.d.ctx, "LOCK TABLE "+strings.Join(names, ", ")+" IN ACCESS SHARE MODE")
		if postgres.Code(err) == postgres.CodeLockNotAvailable {
			who := blocker.stop()
			if !time.Now().Before(late) {
				return postgres.WithHint(fmt.Errorf("lock tables: %w after %s: %s: %w", errLockWait, c.run.o.Request.LockWait, who, err),
					"run the backup when no long change of the schema runs, or raise the lock wait")
			}
			c.run.o.Reporter.Log("warn", fmt.Sprintf("database %s: waiting for a lock: %s", c.d.info.Name.Display(), who))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remember keeps the names of relations for the watcher.
func (c *coordinator) remember(all []relation) {
	names := make(map[uint32]string, len(all))
	for _, r := range all {
		names[r.oid] = r.display()
	}
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	c.d.relationNames = names
}

// coordinate keeps the coordinator alive while workers read, copies what they
// cannot, and ends the transaction at the database's last row.
func (r *run) coordinate(c *coordinator) {
	d := c.d
	defer d.setPID(0)
	defer c.conn.Close(d.ctx)
	err := c.serve()
	if err == nil {
		err = c.tellApart()
	}
	if err != nil {
		d.fail(err)
		return
	}
	// Every lock was held until here, or this fails.
	if err := c.conn.Exec(d.ctx, "COMMIT"); err != nil {
		d.fail(fmt.Errorf("database %s: end the reading transaction: %w", d.info.Name.Display(), err))
		return
	}
	cut, err := newCutting(&r.o, r.shared)
	if err == nil {
		err = d.finish(d.ctx, cut)
	}
	if err != nil {
		d.fail(err)
		return
	}
	d.succeeded()
}

func (c *coordinator) serve() error {
	d := c.d
	beat := time.NewTicker(c.run.o.Heartbeat)
	defer beat.Stop()
	var cut *cutting
	for {
		select {
		case <-d.ctx.Done():
			return context.Cause(d.ctx)
		case <-d.done:
			return nil
		case i := <-d.own:
			if cut == nil {
				var err error
				if cut, err = newCutting(&c.run.o, c.run.shared); err != nil {
					return err
				}
			}
			if err := c.run.copyItem(c.conn, cut, i); err != nil {
				return fmt.Errorf("database %s: read %s: %w", d.info.Name.Display(), i, err)
			}
			d.itemDone(i)
		case <-beat.C:
			if err := c.conn.Exec(d.ctx, "SELECT 1"); err != nil {
				return fmt.Errorf("database %s: the session that holds its locks and its snapshot is gone: %w", d.info.Name.Display(), err)
			}
		}
	}
}
