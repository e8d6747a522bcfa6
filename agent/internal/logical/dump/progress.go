package dump

import (
	"context"
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
	return job.DatabaseProgress{
		Database: d.info.Name.Display(), Phase: phase, Rows: d.rows.Load(), Bytes: d.bytes.Load(), BytesTotal: d.total.Load(),
		TablesDone: int(d.tablesDone.Load()), TablesTotal: int(d.tablesTotal.Load()),
	}
}
