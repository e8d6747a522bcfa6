package prune_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/controller/internal/ingest/ingesttest"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// host is an instance and its agent.
type host struct {
	w       *world
	agent   repo.AgentID
	backups *repotest.Backups
}

func (w *world) host() *host {
	h := &host{w: w, agent: repo.NewID(), backups: repotest.NewBackups(w.t, w.repo, w.domain)}
	return h
}

// job is a backup under way.
type job struct {
	*ingesttest.Upload // once it is open
	h                  *host
	id                 repo.JobID
	fence              repo.Fence
	tables             []repotest.Table
	// hold, if set, is called before the parts are sent.
	hold func()
}

// begin journals a backup with a live attempt.
func (h *host) begin(tables ...repotest.Table) (*job, error) {
	w := h.w
	w.counter++
	j := &job{h: h, id: repo.NewID(), fence: repo.Fence{Epoch: 1, Counter: w.counter}, tables: tables}
	err := w.records.Update(w.t.Context(), catalog.Local, func(tx *catalog.Tx) error {
		return errors.Join(tx.PutJob(catalog.Job{ID: j.id, Kind: catalog.JobBackup, State: catalog.JobRunning, Instance: h.backups.Instance, Agent: h.agent, Current: j.fence,
			Created: time.Now(), Backup: &catalog.BackupSpec{}}),
			tx.PutAttempt(catalog.Attempt{Job: j.id, Fence: j.fence, Agent: h.agent, State: catalog.AttemptRunning, Domain: w.domain.ID(), SealEpoch: w.domain.SealEpoch(), Started: time.Now()}))
	})
	return j, err
}

// open opens the job's upload.
func (j *job) open() (err error) {
	w := j.h.w
	j.Upload, err = ingesttest.NewUpload(w.t.Context(), w.ingest, j.h.agent, j.id, j.fence, w.domain.SealEpoch(), j.h.backups.PackFrames)
	return err
}

// Commit sends the parts, as a Sink.
func (j *job) Commit(references, content []byte) error {
	if err := j.Flush(); err != nil {
		return err
	}
	if j.hold != nil {
		j.hold()
	}
	return j.Upload.Commit(references, content)
}

// run does all of a backup.
func (j *job) run() error {
	if err := j.open(); err != nil {
		return errors.Join(err, j.Close())
	}
	j.h.backups.Sink = j
	err := errors.Join(j.h.backups.BackupAs(j.id, j.tables...), j.Close())
	if err == nil {
		err = j.h.w.ingest.EndJob(j.h.w.t.Context(), j.id)
	}
	return err
}

// backup makes a snapshot that is kept.
func (h *host) backup(tables ...repotest.Table) *job {
	h.w.t.Helper()
	j, err := h.begin(tables...)
	must(h.w.t, err)
	must(h.w.t, j.run())
	h.keep(j)
	return j
}

// keep takes a snapshot among those that must be there.
func (h *host) keep(j *job) {
	h.w.kept = append(h.w.kept, kept{j.id, h.backups.Instance, j.tables})
}

// lose ends a job as one whose agent never came back.
func (j *job) lose() {
	j.h.w.t.Helper()
	j.h.w.update(func(tx *catalog.Tx) error {
		x, err := tx.Job(j.id)
		if err != nil || x.State.Terminal() {
			return err
		}
		x.State, x.Ended = catalog.JobFailed, time.Now()
		return errors.Join(tx.PutJob(x), tx.SweepPacks(j.id))
	})
}

// desk is the job manager and journal, in a few words: what internal/job does is
// tested there.
type desk struct{ w *world }

var (
	_ ingest.Attempts = desk{}
	_ ingest.Journal  = desk{}
)

func (d desk) Authorize(ctx context.Context, agent repo.AgentID, id repo.JobID, fence repo.Fence) (g ingest.Grant, err error) {
	err = d.w.records.View(ctx, func(tx *catalog.Tx) error {
		j, err := tx.Job(id)
		if err != nil {
			return err
		}
		if j.Agent != agent || j.Current != fence || j.State.Terminal() {
			return fmt.Errorf("attempt %s: %w", fence, errs.Conflict)
		}
		g = ingest.Grant{Job: id, Fence: fence, Kind: ingest.KindBackup, Instance: j.Instance, Domain: d.w.domain.ID(), SealEpoch: d.w.domain.SealEpoch()}
		return nil
	})
	return g, err
}

func (d desk) change(ctx context.Context, fn func(tx *catalog.Tx) error) error {
	return d.w.records.Update(ctx, catalog.Local, fn)
}

func (d desk) PackIntent(ctx context.Context, i ingest.PackIntent) error {
	return d.change(ctx, func(tx *catalog.Tx) error {
		return tx.PutPack(catalog.Pack{ID: i.ID, Job: i.Job, Fence: i.Fence, Instance: i.Instance, Domain: i.Domain, State: catalog.PackIntent, Size: i.Size, Frames: int32(i.Chunks), Created: i.Created})
	})
}

func (d desk) PackStored(ctx context.Context, job repo.JobID, id pack.ID) error {
	return d.change(ctx, func(tx *catalog.Tx) error {
		p, err := tx.Pack(job, id)
		if err != nil || p.State != catalog.PackIntent {
			return err
		}
		p.State = catalog.PackStored
		return tx.PutPack(p)
	})
}

func (d desk) PackDropped(ctx context.Context, job repo.JobID, id pack.ID) error {
	return d.change(ctx, func(tx *catalog.Tx) error { return tx.DeletePack(job, id) })
}

func (d desk) PackIndexed(ctx context.Context, job repo.JobID, ids []pack.ID) error {
	return d.change(ctx, func(tx *catalog.Tx) error {
		for _, id := range ids {
			p, err := tx.Pack(job, id)
			if errors.Is(err, errs.NotFound) {
				continue
			}
			if p.State = catalog.PackIndexed; err == nil {
				err = tx.PutPack(p)
			}
			if err != nil {
				return err
			}
		}
		if j, err := tx.Job(job); err != nil || !j.State.Terminal() {
			return err
		}
		return tx.SweepPacks(job)
	})
}

func (d desk) PacksOf(ctx context.Context, job repo.JobID) (out []ingest.PackRecord, err error) {
	err = d.w.records.View(ctx, func(tx *catalog.Tx) error {
		for p, err := range tx.PacksOf(job) {
			if err != nil {
				return err
			}
			if p.State != catalog.PackIntent {
				out = append(out, record(p))
			}
		}
		return nil
	})
	return out, err
}

func record(p catalog.Pack) ingest.PackRecord {
	return ingest.PackRecord{PackIntent: ingest.PackIntent{ID: p.ID, Domain: p.Domain, Job: p.Job, Fence: p.Fence, Instance: p.Instance, Size: p.Size, Chunks: int(p.Frames), Created: p.Created},
		Indexed: p.State == catalog.PackIndexed}
}

func (d desk) open(ctx context.Context, state catalog.PackState) (out []ingest.PackRecord, err error) {
	err = d.w.records.View(ctx, func(tx *catalog.Tx) error {
		for p, err := range tx.OpenPacks(state) {
			if err != nil {
				return err
			}
			out = append(out, record(p))
		}
		return nil
	})
	return out, err
}

func (d desk) Intents(ctx context.Context) (out []ingest.PackIntent, err error) {
	all, err := d.open(ctx, catalog.PackIntent)
	for _, p := range all {
		out = append(out, p.PackIntent)
	}
	return out, err
}

func (d desk) Unindexed(ctx context.Context) ([]ingest.PackRecord, error) {
	return d.open(ctx, catalog.PackStored)
}

func (d desk) Committing(ctx context.Context, c ingest.Committing) error {
	return d.change(ctx, func(tx *catalog.Tx) error {
		j, err := tx.Job(c.Job)
		if err != nil || j.Current != c.Fence || j.State.Terminal() {
			return errors.Join(err, errs.Conflict)
		}
		a, err := tx.Attempt(c.Job, c.Fence)
		if err != nil {
			return err
		}
		j.State, a.State, a.ObjectHash = catalog.JobCommitting, catalog.AttemptCommitting, c.Object
		return errors.Join(tx.PutJob(j), tx.PutAttempt(a))
	})
}

func (d desk) Committed(ctx context.Context, s ingest.Snapshot) error {
	return d.change(ctx, func(tx *catalog.Tx) error {
		j, err := tx.Job(s.ID)
		if err != nil {
			return err
		}
		j.State, j.SnapshotID, j.Ended = catalog.JobSucceeded, s.ID, time.Now()
		return errors.Join(tx.PutJob(j), tx.PutSnapshot(catalog.Snapshot{ID: s.ID, Instance: s.Instance, Agent: s.Agent, Domain: s.Domain, Kind: s.Kind, Fence: s.Fence,
			Committed: s.Committed, ObjectHash: s.Object, ObjectBytes: s.Size, SealEpoch: s.SealEpoch}), tx.SweepPacks(s.ID))
	})
}

func (d desk) Uncommitted(ctx context.Context, id repo.JobID, _ repo.Fence) error {
	return d.change(ctx, func(tx *catalog.Tx) error {
		j, err := tx.Job(id)
		if err != nil {
			return err
		}
		j.State = catalog.JobRunning
		return tx.PutJob(j)
	})
}

func (d desk) Unfinished(ctx context.Context) (out []ingest.Committing, err error) {
	err = d.w.records.View(ctx, func(tx *catalog.Tx) error {
		for j, err := range tx.JobsIn(catalog.JobCommitting) {
			if err != nil {
				return err
			}
			a, err := tx.Attempt(j.ID, j.Current)
			if err != nil {
				return err
			}
			out = append(out, ingest.Committing{Job: j.ID, Fence: a.Fence, Instance: j.Instance, Domain: a.Domain, Object: a.ObjectHash})
		}
		return nil
	})
	return out, err
}

func (d desk) LogNumber(context.Context) (uint64, error) { return 0, nil }
