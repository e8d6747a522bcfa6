package dump

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// watcher looks at the lock queue: DDL that waits for a coordinator's lock makes
// every later reader of the table wait too, so the application stands while we
// read.
type watcher struct {
	run  *run
	conn *postgres.Conn

	mu      sync.Mutex
	blocked []string
}

// lines tells who waits behind our locks.
func (w *watcher) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blocked
}

func (w *watcher) set(lines []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked = lines
}

func (w *watcher) loop(ctx context.Context) {
	tick := time.NewTicker(w.run.o.Watch)
	defer tick.Stop()
	defer func() {
		if w.conn != nil {
			w.conn.Close(ctx)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			w.run.o.Reporter.Log("warn", fmt.Sprintf("look for sessions that wait behind the backup: %v", err))
			if w.conn != nil {
				w.conn.Close(ctx) // a new one next time
				w.conn = nil
			}
		}
	}
}

// waitingQuery names sessions that wait for an exclusive lock behind one of
// ours. Version 13 does not tell since when; its statement's start is near.
func waitingQuery(v pg.Version) string {
	since := "l.waitstart"
	if v.Major() < 14 {
		since = "a.query_start"
	}
	return `SELECT a.pid, coalesce(a.usename::text, ''), coalesce(l.relation::int8, 0), coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - ` + since + `), 0)::int8,
		pg_catalog.left(pg_catalog.regexp_replace(a.query, '\s+', ' ', 'g'), 120), b.pid
	FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid) CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(l.pid)) b(pid)
	WHERE NOT l.granted AND l.mode = 'AccessExclusiveLock' AND b.pid = ANY ($1::int[]) ORDER BY a.pid`
}

// look reads the queue once and gives up databases whose patience has ended.
func (w *watcher) look(ctx context.Context) error {
	by := map[uint32]*database{}
	var pids []string
	for _, d := range w.run.databases {
		d.mu.Lock()
		if d.pid != 0 {
			by[d.pid] = d
			pids = append(pids, fmt.Sprint(d.pid))
		}
		d.mu.Unlock()
	}
	if len(pids) == 0 {
		w.set(nil)
		return nil
	}
	if w.conn == nil {
		var err error
		if w.conn, err = postgres.ConnectMaintenance(ctx, w.run.o.Config, w.run.application("watcher")); err != nil {
			return err
		}
	}
	var lines []string
	var pid, blocker uint32
	var user, query pg.Name
	var rel uint32
	var seconds int64
	err := w.conn.Each(ctx, waitingQuery(w.conn.Version), []any{"{" + strings.Join(pids, ",") + "}"},
		[]any{&pid, &user, &rel, &seconds, &query, &blocker}, func() error {
			d := by[blocker]
			if d == nil {
				return nil
			}
			wait := time.Duration(seconds) * time.Second
			line := fmt.Sprintf("database %s: session %d of %s waits for %s since %s: %s", d.info.Name.Display(), pid, user.Display(), d.relationName(rel), wait, query.Display())
			lines = append(lines, line)
			if w.run.o.Request.AbortOnBlockedDDL && wait >= w.run.o.Request.Patience {
				d.fail(postgres.WithHint(fmt.Errorf("given up after %s so that the application can go on: %s: %w", w.run.o.Request.Patience, line, errs.Busy),
					"run the backup when the schema is not changed, or set the policy to wait"))
			}
			return nil
		})
	if err != nil {
		return err
	}
	w.set(lines)
	return nil
}

func (d *database) relationName(oid uint32) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.relationNames[oid]; n != "" {
		return n
	}
	return fmt.Sprintf("relation %d", oid)
}

// blockerWatch remembers who keeps a session of ours from a lock: once the wait
// has timed out nobody can tell any more.
type blockerWatch struct {
	cancel context.CancelFunc
	done   chan struct{}
	last   string // valid after done
	// queued, if set, is called when the blocker waits for the coordinator: then the
	// wait has no end but its time out.
	queued func()
}

// blockerEvery is how often the blocker is asked for. Most locks are had at
// once, so the first question, and the connection for it, comes after one interval.
const blockerEvery = 500 * time.Millisecond

// watchBlocker watches one process, or with pid 0 whichever session has the
// application name of the database's pg_dump. The caller must stop it.
func (r *run) watchBlocker(d *database, pid uint32, queued func()) *blockerWatch {
	ctx, cancel := context.WithCancel(d.ctx)
	b := &blockerWatch{cancel: cancel, done: make(chan struct{}), queued: queued}
	go func() { // stop waits for it
		defer close(b.done)
		r.blockerLoop(ctx, d, pid, b)
	}()
	return b
}

// stop ends the watch and tells the last blocker seen, or "".
func (b *blockerWatch) stop() string {
	b.cancel()
	<-b.done
	return b.last
}

func (r *run) blockerLoop(ctx context.Context, d *database, pid uint32, b *blockerWatch) {
	tick := time.NewTicker(blockerEvery)
	defer tick.Stop()
	var conn *postgres.Conn
	defer func() {
		if conn != nil {
			conn.Close(ctx)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if conn == nil {
			var err error
			if conn, err = postgres.ConnectMaintenance(ctx, r.o.Config, r.application("watcher")); err != nil {
				return // without it the error just does not name the blocker
			}
		}
		who, queued, err := r.blockerOf(ctx, conn, d, pid)
		if err != nil {
			return
		}
		if who != "" {
			b.last = who
		}
		if queued && b.queued != nil {
			b.queued()
			return
		}
	}
}

const blockerQuery = `SELECT l.relation::int8, a.pid, coalesce(a.usename::text, ''), coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start), 0)::int8,
	coalesce(a.state, ''), coalesce(pg_catalog.left(pg_catalog.regexp_replace(a.query, '\s+', ' ', 'g'), 120), ''), $3::int = ANY (pg_catalog.pg_blocking_pids(a.pid))
FROM pg_catalog.pg_locks l CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(l.pid)) b(pid) JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
WHERE NOT l.granted AND l.locktype = 'relation' AND (l.pid = $1::int OR $1::int = 0 AND l.pid IN (SELECT s.pid FROM pg_catalog.pg_stat_activity s WHERE s.application_name = $2)) LIMIT 1`

// blockerOf words who blocks a session, and tells whether that one waits for the
// coordinator in turn.
func (r *run) blockerOf(ctx context.Context, conn *postgres.Conn, d *database, pid uint32) (who string, queued bool, err error) {
	var rel, blocker uint32
	var user, query pg.Name
	var state string
	var seconds int64
	d.mu.Lock()
	coordinator := d.pid
	d.mu.Unlock()
	err = conn.Each(ctx, blockerQuery, []any{pid, r.application("schema"), coordinator}, []any{&rel, &blocker, &user, &seconds, &state, &query, &queued}, func() error {
		who = fmt.Sprintf("%s is locked by session %d of %s, in a transaction since %s (%s): %s", d.relationName(rel), blocker, user.Display(),
			time.Duration(seconds)*time.Second, state, query.Display())
		return nil
	})
	return who, queued, err
}
