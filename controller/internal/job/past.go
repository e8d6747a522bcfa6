package job

import (
	"context"
	"slices"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// Past is what earlier restores say of how long one takes.
type Past struct {
	// BytesPerSecond is the median over Restores of them, in plain bytes; both are 0
	// when there were none.
	BytesPerSecond int64
	Restores       int
}

// Bounds of Past.
const (
	// pastRestores is how many restores count: the newest.
	pastRestores = 10
	// pastBytes is the size below which a restore tells nothing of the speed: most of
	// its time went into beginning and ending.
	pastBytes = 1 << 20
	// pastJobs bounds the jobs that are looked at for restores, pastPage how many at
	// a time: with their results some are large.
	pastJobs = 1000
	pastPage = 20
)

// past looks at the newest jobs of the instance and, where none of them tells
// anything, at those of all.
func (m *Manager) past(ctx context.Context, instance repo.InstanceID) (p Past, err error) {
	err = m.catalog.View(ctx, func(tx *catalog.Tx) error {
		for _, of := range []repo.InstanceID{instance, {}} {
			var rates []int64
			page := catalog.Page{Size: pastPage}
			for seen := 0; seen < pastJobs && len(rates) < pastRestores; seen += pastPage {
				jobs, next, err := tx.Jobs(page, catalog.JobFilter{Instance: of})
				if err != nil {
					return err
				}
				for i := range jobs {
					if rate, ok := rateOf(&jobs[i]); ok {
						rates = append(rates, rate)
					}
				}
				if page.Token = next; next == "" {
					break
				}
			}
			if p = pastOf(rates); p.Restores > 0 {
				return nil
			}
		}
		return nil
	})
	return p, err
}

// rateOf gives the bytes per second of a job that was a restore worth counting.
func rateOf(j *catalog.Job) (int64, bool) {
	if j.Kind != catalog.JobRestore || j.State != catalog.JobSucceeded || j.DryRun() || j.Result == nil || j.Result.Stats.PlainBytes < pastBytes {
		return 0, false
	}
	took := j.Result.Ended.Sub(j.Result.Started)
	if took < time.Millisecond { // an agent whose clock was set
		return 0, false
	}
	return int64(float64(j.Result.Stats.PlainBytes) / took.Seconds()), true
}

// pastOf takes the median of the newest rates, which come first.
func pastOf(rates []int64) Past {
	rates = slices.Clone(rates[:min(len(rates), pastRestores)])
	if len(rates) == 0 {
		return Past{}
	}
	slices.Sort(rates)
	return Past{BytesPerSecond: rates[(len(rates)-1)/2], Restores: len(rates)}
}
