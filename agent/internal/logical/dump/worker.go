package dump

import (
	"context"
	"fmt"

	"github.com/tuskvault/tuskvault/agent/internal/postgres"
	"github.com/tuskvault/tuskvault/internal/pg"
)

// work is one worker: one upload stream, and one connection at a time, in the
// database whose items it reads. It returns when the queue is closed and empty.
// An error is the uploader's and ends the whole run.
func (r *run) work(ctx context.Context) error {
	stream, err := r.o.Uploader.Stream(ctx)
	if err != nil {
		return upload(err)
	}
	cut, err := newCutting(&r.o, stream)
	if err != nil {
		return err
	}
	w := &worker{run: r, cut: cut}
	defer w.leave(ctx)
	for {
		i, ok := r.queue.poll(w.d)
		if !ok {
			// Nothing more in this database: its transaction must not be held while waiting.
			w.leave(ctx)
			if i, err = r.queue.next(ctx); err != nil || i == nil {
				return nil // the queue is empty, or ctx has ended and its cause is known
			}
		}
		if err := w.do(ctx, i); isUpload(err) && ctx.Err() == nil && i.db.ctx.Err() == nil {
			i.db.fail(err)
			return err
		} else if err != nil {
			i.db.fail(fmt.Errorf("database %s: read %s: %w", i.db.info.Name.Display(), i, err))
		}
	}
}

// worker reads items.
type worker struct {
	run  *run
	cut  *cutting
	d    *database // whose connection it has
	conn *postgres.Conn
}

// leave ends the worker's transaction and connection.
func (w *worker) leave(ctx context.Context) {
	if w.conn != nil {
		w.conn.Close(ctx)
	}
	w.conn, w.d = nil, nil
}

func (w *worker) do(ctx context.Context, i *item) error {
	if i.db.failed() {
		return nil
	}
	if err := w.join(ctx, i.db); err != nil {
		if postgres.Code(err) == postgres.CodeInvalidSnapshot || i.db.ctx.Err() != nil {
			return err
		}
		// The coordinator has a connection already. If it is gone too, it says so.
		w.leave(ctx)
		w.run.o.Reporter.Log("warn", fmt.Sprintf("database %s: %v: one connection less reads it", i.db.info.Name.Display(), err))
		i.db.own <- i
		return nil
	}
	if i.kind == itemRows {
		free, err := w.lock(i.db.ctx, i.table.relation)
		if err != nil {
			return err
		}
		if !free {
			i.db.own <- i
			return nil
		}
	}
	if err := w.run.copyItem(w.conn, w.cut, i); err != nil {
		w.leave(ctx)
		return err
	}
	i.db.itemDone(i)
	return nil
}

// join connects to a database and imports its snapshot.
func (w *worker) join(ctx context.Context, d *database) error {
	if w.d == d && w.conn != nil && !w.conn.Lost() {
		return nil
	}
	w.leave(ctx)
	conn, err := postgres.Connect(d.ctx, w.run.o.Config, d.info.Name, w.run.application("worker"))
	if err != nil {
		return err
	}
	w.conn, w.d = conn, d
	if err := conn.Apply(d.ctx, postgres.SourceSession(conn.Version, conn.Superuser)); err != nil {
		return err
	}
	if err := conn.Exec(d.ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return err
	}
	if err := conn.Exec(d.ctx, "SET TRANSACTION SNAPSHOT "+pg.Name(d.exported).Literal()); err != nil {
		return fmt.Errorf("join the snapshot of database %s: %w", d.info.Name.Display(), err)
	}
	return nil
}

// lock takes the worker's own lock on a table. When somebody's DDL is queued
// behind the coordinator's lock, ours would queue behind the DDL, and the DDL
// waits for the coordinator: then it is not free, and the coordinator reads it.
func (w *worker) lock(ctx context.Context, r relation) (free bool, err error) {
	if err := w.conn.Exec(ctx, "SAVEPOINT tuskvault_lock"); err != nil {
		return false, err
	}
	err = w.conn.Exec(ctx, "LOCK TABLE ONLY "+r.quoted()+" IN ACCESS SHARE MODE NOWAIT")
	if postgres.Code(err) == postgres.CodeLockNotAvailable {
		return false, w.conn.Exec(ctx, "ROLLBACK TO SAVEPOINT tuskvault_lock; RELEASE SAVEPOINT tuskvault_lock")
	}
	if err != nil {
		return false, err
	}
	return true, w.conn.Exec(ctx, "RELEASE SAVEPOINT tuskvault_lock")
}

// itemDone counts an item as read.
func (d *database) itemDone(i *item) {
	i.count.end()
	if i.table != nil {
		d.mu.Lock()
		i.table.leftover--
		last := i.table.leftover == 0
		d.mu.Unlock()
		if last {
			d.tablesDone.Add(1)
		}
	}
	d.finished()
}
