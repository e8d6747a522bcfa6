package load

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tuskvault/tuskvault/agent/internal/job"
)

// progress is how far one database is.
type progress struct {
	plan        *DatabasePlan
	started     time.Time
	rows, bytes atomic.Int64
	tables      atomic.Int64 // compared and equal

	mu    sync.Mutex
	phase string
}

func newProgress(d *DatabasePlan) *progress { return &progress{plan: d, phase: job.PhaseWaiting} }

// add counts what was loaded; negative numbers take back what failed.
func (p *progress) add(rows, bytes int64) {
	p.rows.Add(rows)
	p.bytes.Add(bytes)
}

func (p *progress) set(phase string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = phase
}

func (p *progress) fail() { p.set(job.PhaseFailed) }

func (p *progress) snapshot() job.DatabaseProgress {
	p.mu.Lock()
	phase := p.phase
	p.mu.Unlock()
	out := job.DatabaseProgress{
		Database: p.plan.Target.Display(), Phase: phase, Rows: p.rows.Load(), Bytes: p.bytes.Load(), BytesTotal: p.plan.Bytes,
		TablesDone: int(p.tables.Load()), TablesTotal: p.plan.Tables,
	}
	if phase == job.PhaseData && out.Bytes >= out.BytesTotal {
		out.Phase = job.PhaseIndexes
		if out.TablesDone < out.TablesTotal {
			out.Phase = job.PhaseChecking
		}
	}
	return out
}
