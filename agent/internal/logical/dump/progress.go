package dump

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
)

// reportEvery is how often progress is told.
const reportEvery = time.Second

func (r *run) reportLoop(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		r.report()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// report tells how far every database is.
func (r *run) report() {
	p := job.Progress{Phase: "reading databases", Transferred: r.o.Uploader.Sent(), Blocked: r.watcher.lines()}
	for _, d := range byName(r.databases) {
		p.Databases = append(p.Databases, d.progress())
	}
	r.o.Reporter.Progress(p)
}

func (d *database) progress() job.DatabaseProgress {
	d.mu.Lock()
	phase := d.phase
	d.mu.Unlock()
	out := job.DatabaseProgress{
		Database: d.info.Name.Display(), Phase: phase, Rows: d.rows.Load(), Bytes: d.bytes.Load(), BytesTotal: d.total.Load(),
		TablesDone: int(d.tablesDone.Load()), TablesTotal: int(d.tablesTotal.Load()),
	}
	if phase == job.PhaseWaiting {
		// Better than nothing until its tables were looked at, and too much rather than
		// too little: indexes count too.
		out.BytesTotal = max(d.info.Size, 0)
	}
	if all := d.counted.Load(); all != nil && phase == job.PhaseData {
		tables := make([]job.TableProgress, len(*all))
		for i, c := range *all {
			tables[i] = c.progress()
		}
		out.Tables = job.Busiest(tables, job.MaxTables)
	}
	return out
}

// counting is how far one table is, or the large objects. Its methods do nothing
// without one, and may be called concurrently.
type counting struct {
	// t is nil for large objects.
	t     *table
	total int64 // bytes, an estimate
	items int32
	rows  atomic.Int64
	bytes atomic.Int64
	busy  atomic.Int32 // items that are read now
	done  atomic.Int32 // items read
}

// track begins to count the tables of a database, once its items are planned.
func (d *database) track() {
	var all []*counting
	for _, t := range d.tables {
		t.count = nil // of an earlier try
		for _, i := range t.items {
			if t.count == nil {
				t.count = &counting{t: t}
				all = append(all, t.count)
			}
			i.count = t.count
			t.count.total += i.size
			t.count.items++
		}
	}
	if d.objects != nil {
		d.objects.count = &counting{total: d.objects.size, items: 1}
		all = append(all, d.objects.count)
	}
	d.counted.Store(&all)
}

// begin notes that an item is being read, until what it gives is called.
func (c *counting) begin() (stop func()) {
	if c == nil {
		return func() {}
	}
	c.busy.Add(1)
	return func() { c.busy.Add(-1) }
}

func (c *counting) add(rows, bytes int64) {
	if c != nil {
		c.rows.Add(rows)
		c.bytes.Add(bytes)
	}
}

// end notes that an item was read.
func (c *counting) end() {
	if c != nil {
		c.done.Add(1)
	}
}

// progress tells how far it is. An estimate that was passed is no estimate any
// more: nobody is told that 120 of 100 rows were read.
func (c *counting) progress() job.TableProgress {
	out := job.TableProgress{
		Table: "large objects", Phase: tablePhase(c.busy.Load(), c.done.Load(), c.items), Rows: c.rows.Load(), Bytes: c.bytes.Load(), Estimated: true,
	}
	out.BytesTotal = max(c.total, out.Bytes)
	if c.t != nil {
		out.Table, out.RowsTotal = c.t.display(), c.t.expected
	}
	if out.RowsTotal > 0 {
		out.RowsTotal = max(out.RowsTotal, out.Rows)
	}
	return out
}

func tablePhase(busy, done, items int32) string {
	switch {
	case busy > 0:
		return job.TableCopying
	case done >= items:
		return job.TableDone
	}
	return job.TableWaiting
}
