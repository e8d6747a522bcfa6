package controller

import (
	"cmp"
	"context"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/copies"
	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// copyOptions turns the configuration of copies into theirs. Nothing is opened:
// a copy that cannot be reached must not keep a controller from starting.
func (c *Config) copyOptions() []copies.Options {
	out := make([]copies.Options, len(c.Copies))
	for i, o := range c.Copies {
		out[i] = copies.Options{Name: o.Name, BytesPerSecond: int64(o.BytesPerSecond), MaxLag: cmp.Or(o.MaxLag, defaultMaxLag),
			Open: func(ctx context.Context) (blob.Store, error) { return openStore(ctx, o.Store, false) }}
	}
	return out
}

// elsewhere is where the ingest reads what the store does not give; nil without
// copies.
func (w *wired) elsewhere(cat *catalog.Catalog) ingest.Copies {
	if len(w.controller.config.Copies) == 0 {
		return nil
	}
	return elsewhere{w, cat}
}

// elsewhere passes reads on to the copies, which are made after the ingest.
type elsewhere struct {
	w       *wired
	catalog *catalog.Catalog
}

// Tell puts a line into the log of a job.
func (e elsewhere) Tell(ctx context.Context, job repo.JobID, fence repo.Fence, message string) error {
	return e.catalog.Update(ctx, catalog.Local, func(tx *catalog.Tx) error {
		return tx.AppendLog(job, catalog.LogLine{Fence: fence, Time: time.Now(), Level: "warn", Message: message})
	})
}

// Read reads from the first copy that gives what is wanted.
func (e elsewhere) Read(ctx context.Context, key string, fn func(context.Context, blob.Store) error) (string, error) {
	return e.w.copies.Read(ctx, key, fn)
}
