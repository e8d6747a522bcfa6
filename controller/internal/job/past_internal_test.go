package job

import (
	"testing"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
)

func TestTheSpeedIsTheMedianOfTheNewestRestores(t *testing.T) {
	const mib = 1 << 20
	restore := func(mibs int64, seconds float64) catalog.Job {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		return catalog.Job{Kind: catalog.JobRestore, State: catalog.JobSucceeded, Restore: &catalog.RestoreSpec{},
			Result: &catalog.Result{Started: start, Ended: start.Add(time.Duration(seconds * float64(time.Second))), Stats: catalog.Stats{PlainBytes: mibs * mib}}}
	}
	with := func(j catalog.Job, change func(*catalog.Job)) catalog.Job { change(&j); return j }
	var many []catalog.Job
	for range 10 {
		many = append(many, restore(100, 10))
	}
	for range 100 {
		many = append(many, restore(1000, 1)) // of long ago
	}
	for name, c := range map[string]struct {
		jobs []catalog.Job
		want Past
	}{
		"none":            {nil, Past{}},
		"one":             {[]catalog.Job{restore(100, 10)}, Past{10 * mib, 1}},
		"an outlier":      {[]catalog.Job{restore(100, 10), restore(100, 1), restore(120, 10)}, Past{12 * mib, 3}},
		"two":             {[]catalog.Job{restore(100, 10), restore(300, 10)}, Past{10 * mib, 2}},
		"only the newest": {many, Past{10 * mib, 10}},
		"what tells nothing": {[]catalog.Job{
			with(restore(100, 10), func(j *catalog.Job) { j.Kind, j.Restore, j.Backup = catalog.JobBackup, nil, &catalog.BackupSpec{} }),
			with(restore(100, 10), func(j *catalog.Job) { j.State = catalog.JobFailed }),
			with(restore(100, 10), func(j *catalog.Job) { j.Restore.DryRun = true }),
			with(restore(100, 10), func(j *catalog.Job) { j.Result = nil }),
			with(restore(100, 10), func(j *catalog.Job) { j.Result.Stats.PlainBytes = 5000 }),
			restore(100, 0), restore(100, -5),
		}, Past{}},
	} {
		var rates []int64
		for i := range c.jobs {
			if rate, ok := rateOf(&c.jobs[i]); ok {
				rates = append(rates, rate)
			}
		}
		if got := pastOf(rates); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
