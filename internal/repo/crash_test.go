package repo_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/dir"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// life is what one controller does to a store, and what it was told of it.
type life struct {
	t        *testing.T
	unlocker *seal.KeyFile
	instance repo.InstanceID
	job      repo.JobID
	lost     repo.JobID // the job that is given up

	initDone  bool
	domain    seal.DomainID
	epoch     uint64
	logged    int
	committed bool
	aborted   bool
	sealEpoch uint32
	head      repo.Witness
	prepared  *repo.PreparedSnapshot
}

var payloads = []string{"one", "two", "three"}

// run does everything until the store stops. Each durable act is acknowledged in
// the fields above only after it returned nil.
func (l *life) run(ctx context.Context, store blob.Store) error {
	r, err := repo.Init(ctx, store, repo.Options{Unlocker: l.unlocker, Name: "crash"})
	if err != nil {
		return err
	}
	l.initDone = true
	if l.domain, err = r.CreateDomain(ctx); err != nil {
		l.domain = seal.DomainID{}
		return err
	}
	d, err := r.Domain(ctx, l.domain)
	if err != nil {
		return err
	}
	if l.epoch, err = r.ClaimEpoch(ctx); err != nil {
		return err
	}
	log, err := repo.OpenLog(ctx, r, l.epoch)
	if err != nil {
		return err
	}
	for _, p := range payloads {
		w, err := log.Append(ctx, repo.LogSynchronous, []byte(p))
		if err != nil {
			return err
		}
		l.logged, l.head = l.logged+1, w
	}
	l.prepared = repotest.Prepare(l.t, d, l.instance, l.job, repo.Fence{Epoch: l.epoch, Counter: 1})
	if err := l.put(ctx, d, l.prepared, repo.OutcomeDone); err != nil {
		return err
	}
	l.committed = true
	abort, err := d.PrepareAbort(l.instance, l.lost, repo.Fence{Epoch: l.epoch, Counter: 2}, repo.Commit{})
	if err != nil {
		return err
	}
	if err := l.put(ctx, d, abort, repo.OutcomeAborted); err != nil {
		return err
	}
	l.aborted = true
	if err := log.PutFull(ctx, l.head, []byte("one two three")); err != nil {
		return err
	}
	l.sealEpoch, err = d.BumpSealEpoch(ctx)
	return err
}

func (l *life) put(ctx context.Context, d *repo.Domain, p *repo.PreparedSnapshot, want repo.Outcome) error {
	// One try: the store does not come back.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result, err := d.PutSnapshot(withoutPatience(ctx, cancel), p)
	if err == nil && result.Outcome != want {
		return fmt.Errorf("put snapshot: %s, want %s", result.Outcome, want)
	}
	return err
}

// checkAfter opens the store as the next controller would and holds against it
// what the dead one had been told.
func (l *life) checkAfter(ctx context.Context, store blob.Store) {
	t := l.t
	t.Helper()
	r, err := repo.Open(ctx, store, l.unlocker)
	if err != nil {
		if l.initDone || !errors.Is(err, errs.NotFound) && !errors.Is(err, errs.Conflict) {
			t.Fatalf("open: %v (init acknowledged: %t)", err, l.initDone)
		}
		if _, err := repo.Init(ctx, store, repo.Options{Unlocker: l.unlocker, Name: "crash"}); err != nil {
			t.Fatalf("init again: %v", err)
		}
		if r, err = repo.Open(ctx, store, l.unlocker); err != nil {
			t.Fatalf("open after init again: %v", err)
		}
	}
	l.checkLog(ctx, r)
	l.checkSnapshots(ctx, r)
	l.goOn(ctx, r)
}

func (l *life) checkLog(ctx context.Context, r *repo.Repository) {
	t := l.t
	t.Helper()
	var got []string
	head, err := r.ReplayLogAfter(ctx, repo.Witness{Repository: r.ID()}, func(rec *repo.LogRecord) error {
		got = append(got, string(rec.Payload))
		return nil
	})
	if err != nil {
		t.Fatalf("replay: %v", err)
	}
	if len(got) < l.logged || len(got) > len(payloads) {
		t.Fatalf("the log has %v, %d were acknowledged", got, l.logged)
	}
	for i, p := range got {
		if p != payloads[i] {
			t.Fatalf("the log has %v", got)
		}
	}
	if l.logged > 0 {
		if err := r.CheckWitness(ctx, l.head); err != nil {
			t.Fatalf("witness of the last acknowledged record: %v", err)
		}
	}
	if opened, err := r.LogHead(ctx); err != nil || opened != head && len(got) > 0 {
		t.Fatalf("head %v, %v; replay ended at %v", opened, err, head)
	}
}

func (l *life) checkSnapshots(ctx context.Context, r *repo.Repository) {
	t := l.t
	t.Helper()
	err := r.ListSnapshots(ctx, repo.InstanceID{}, func(info repo.SnapshotInfo) error {
		if info.Err != nil {
			t.Errorf("%s: %v", info.Key, info.Err)
		}
		_, _, err := repo.CheckSnapshot(ctx, r.Store(), info.Key, nil)
		return err
	})
	if err != nil {
		t.Fatalf("list snapshots: %v", err)
	}
	s, err := r.ReadSnapshot(ctx, l.instance, l.job)
	switch {
	case err == nil:
		checkManifest(t, r, s)
	case !errors.Is(err, errs.NotFound) || l.committed:
		t.Fatalf("read snapshot: %v (commit acknowledged: %t)", err, l.committed)
	}
	if _, err := r.ReadSnapshot(ctx, l.instance, l.lost); !errors.Is(err, errs.NotFound) {
		t.Fatalf("read the snapshot of a job that was given up: %v", err)
	}
}

// goOn does what the dead controller would have done next.
func (l *life) goOn(ctx context.Context, r *repo.Repository) {
	t := l.t
	t.Helper()
	epoch, err := r.ClaimEpoch(ctx)
	if err != nil || epoch <= l.epoch {
		t.Fatalf("claim epoch: %d after %d, %v", epoch, l.epoch, err)
	}
	log, err := repo.OpenLog(ctx, r, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(ctx, repo.LogAsynchronous, []byte("four")); err != nil {
		t.Fatal(err)
	}
	if l.domain == (seal.DomainID{}) {
		return
	}
	d, err := r.Domain(ctx, l.domain)
	if err != nil {
		t.Fatalf("open acknowledged domain: %v", err)
	}
	if d.SealEpoch() < l.sealEpoch {
		t.Errorf("seal epoch %d, %d was acknowledged", d.SealEpoch(), l.sealEpoch)
	}
	if l.prepared == nil {
		return
	}
	h := l.prepared.Header()
	found, err := d.ResolveSnapshot(ctx, h.Instance, h.Job, h.Fence, l.prepared.Hash())
	if err != nil || found.Outcome != repo.OutcomeUnknown && found.Outcome != repo.OutcomeDone {
		t.Fatalf("resolve: %+v, %v", found, err)
	}
	result, err := d.PutSnapshot(ctx, repotest.Prepare(t, d, l.instance, l.job, repo.Fence{Epoch: epoch, Counter: 1}))
	want := repo.OutcomeDone
	if found.Outcome == repo.OutcomeDone {
		want = repo.OutcomeSuperseded
	}
	if err != nil || result.Outcome != want {
		t.Fatalf("next attempt: %+v, %v; want %s", result, err, want)
	}
}

func TestAStopAfterAnyDurableStepLeavesAWholeRepository(t *testing.T) {
	for name, open := range map[string]func(*testing.T) blob.Store{
		"mem": func(*testing.T) blob.Store { return mem.New() },
		"dir": func(t *testing.T) blob.Store {
			s, err := dir.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			const mostSteps = 100
			for n := range mostSteps {
				store := open(t)
				faulty := blobtest.NewFaulty(store)
				faulty.StopAfter(n)
				l := &life{t: t, unlocker: seal.NewKeyFile(), instance: repo.NewID(), job: repo.NewID(), lost: repo.NewID()}
				err := l.run(t.Context(), faulty)
				t.Logf("after step %d: %v", n, err)
				if (err == nil) == faulty.Stopped() {
					t.Fatalf("step %d: stopped %t, yet %v", n, faulty.Stopped(), err)
				}
				l.checkAfter(t.Context(), store)
				if err == nil {
					if n != 11 { // init 2, domain, epoch, log 3, snapshot, marker, full, seal epoch
						t.Errorf("done in %d durable steps, want 11: the loop no longer meets each of them", n)
					}
					return
				}
			}
			t.Fatalf("not done in %d steps", mostSteps)
		})
	}
}
