package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// setup gives a repository in a faulty store.
func setup(t *testing.T) (*blobtest.Faulty, *repo.Repository, *repo.Domain) {
	t.Helper()
	faulty := blobtest.NewFaulty(mem.New())
	r, d, _ := repotest.New(t, faulty)
	return faulty, r, d
}

func TestOfManyAttemptsExactlyOneMakesTheSnapshot(t *testing.T) {
	_, r, d := setup(t)
	instance, job := repo.NewID(), repo.NewID()
	const attempts = 16
	results := make([]repo.PutResult, attempts)
	var wg sync.WaitGroup
	for i := range attempts {
		p := repotest.Prepare(t, d, instance, job, repo.Fence{Epoch: 1, Counter: uint64(i + 1)})
		wg.Go(func() {
			var err error
			if results[i], err = d.PutSnapshot(t.Context(), p); err != nil {
				t.Errorf("attempt %d: %v", i+1, err)
			}
		})
	}
	wg.Wait()
	s, err := r.ReadSnapshot(t.Context(), instance, job)
	if err != nil {
		t.Fatal(err)
	}
	for i, result := range results {
		want := repo.OutcomeSuperseded
		if s.Header.Fence.Counter == uint64(i+1) {
			want = repo.OutcomeDone
		}
		if result.Outcome != want || result.Header != s.Header {
			t.Errorf("attempt %d: %s by %v, want %s", i+1, result.Outcome, result.Header.Fence, want)
		}
	}
	checkManifest(t, r, s)
}

func TestAnAbortMarkerAndASnapshotExcludeEachOther(t *testing.T) {
	_, r, d := setup(t)
	for round := range 20 {
		instance, job := repo.NewID(), repo.NewID()
		p := repotest.Prepare(t, d, instance, job, repo.Fence{Epoch: 1, Counter: 1})
		abort, err := d.PrepareAbort(instance, job, repo.Fence{Epoch: 1, Counter: 1}, repo.Commit{})
		if err != nil {
			t.Fatal(err)
		}
		var outcomes [2]repo.PutResult
		var wg sync.WaitGroup
		for i, x := range []*repo.PreparedSnapshot{p, abort} {
			wg.Go(func() {
				var err error
				if outcomes[i], err = d.PutSnapshot(t.Context(), x); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		_, err = r.ReadSnapshot(t.Context(), instance, job)
		switch {
		case err == nil && outcomes[0].Outcome == repo.OutcomeDone && outcomes[1].Outcome == repo.OutcomeSuperseded:
		case err != nil && outcomes[0].Outcome == repo.OutcomeAborted && outcomes[1].Outcome == repo.OutcomeAborted:
		default:
			t.Errorf("round %d: snapshot told %s, marker told %s, read: %v", round, outcomes[0].Outcome, outcomes[1].Outcome, err)
		}
	}
}

func TestAnAmbiguousPutIsSettledByReadingBack(t *testing.T) {
	prefix := repo.SnapshotsPrefix
	for what, c := range map[string]struct {
		faults []blobtest.Fault
	}{
		"the answer is lost":             {[]blobtest.Fault{{Op: blob.OpCreate, Prefix: prefix, Nth: 1, Effect: blobtest.Ambiguous}}},
		"the put never arrived":          {[]blobtest.Fault{{Op: blob.OpCreate, Prefix: prefix, Nth: 1, Effect: blobtest.Fail}}},
		"the store lies":                 {[]blobtest.Fault{{Op: blob.OpCreate, Prefix: prefix, Nth: 1, Effect: blobtest.Vanish}}},
		"reading back fails at first":    {[]blobtest.Fault{{Op: blob.OpStat, Prefix: prefix, Nth: 1, Effect: blobtest.Fail}}},
		"the answer and the look fail":   {[]blobtest.Fault{{Op: blob.OpCreate, Prefix: prefix, Nth: 1, Effect: blobtest.Ambiguous}, {Op: blob.OpOpen, Prefix: prefix, Nth: 1, Effect: blobtest.Fail}}},
		"the look breaks off in between": {[]blobtest.Fault{{Op: blob.OpOpen, Prefix: prefix, Nth: 1, Effect: blobtest.Break}}},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				faulty, r, d := setup(t)
				faulty.Plan(c.faults...)
				instance, job := repo.NewID(), repo.NewID()
				p := repotest.Prepare(t, d, instance, job, repo.Fence{Epoch: 1, Counter: 1})
				result, err := d.PutSnapshot(t.Context(), p)
				if err != nil || result.Outcome != repo.OutcomeDone || result.Hash != p.Hash() {
					t.Fatalf("%s, %v", result.Outcome, err)
				}
				faulty.Verify(t)
				s, err := r.ReadSnapshot(t.Context(), instance, job)
				if err != nil {
					t.Fatal(err)
				}
				checkManifest(t, r, s)
			})
		})
	}
}

func TestWithoutAnyAnswerTheOutcomeIsUnknownAndAMarkerEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty, _, d := setup(t)
		instance, job, fence := repo.NewID(), repo.NewID(), repo.Fence{Epoch: 1, Counter: 1}
		for n := 1; n <= 6; n++ {
			faulty.Plan(blobtest.Fault{Op: blob.OpCreate, Prefix: repo.SnapshotsPrefix, Nth: n, Effect: blobtest.Fail})
		}
		p := repotest.Prepare(t, d, instance, job, fence)
		result, err := d.PutSnapshot(t.Context(), p)
		wantKind(t, "put", err, errs.Unavailable)
		faulty.Verify(t)
		if result.Outcome != repo.OutcomeUnknown {
			t.Errorf("outcome %s", result.Outcome)
		}
		resolved, err := d.ResolveSnapshot(t.Context(), instance, job, fence, p.Hash())
		if err != nil || resolved.Outcome != repo.OutcomeUnknown {
			t.Errorf("resolve: %s, %v", resolved.Outcome, err)
		}
		abort, err := d.PrepareAbort(instance, job, fence, repo.Commit{})
		if err != nil {
			t.Fatal(err)
		}
		if result, err := d.PutSnapshot(t.Context(), abort); err != nil || result.Outcome != repo.OutcomeAborted {
			t.Errorf("abort: %s, %v", result.Outcome, err)
		}
		// The put that was under way arrives after all.
		if result, err := d.PutSnapshot(t.Context(), p); err != nil || result.Outcome != repo.OutcomeAborted {
			t.Errorf("late put: %s, %v", result.Outcome, err)
		}
	})
}

func TestAStoreThatRefusesIsToldWithItsWords(t *testing.T) {
	for _, kind := range []*errs.Kind{errs.Exhausted, errs.ReadOnly, errs.Denied} {
		faulty, _, d := setup(t)
		faulty.Plan(blobtest.Fault{Op: blob.OpCreate, Prefix: repo.SnapshotsPrefix, Nth: 1, Effect: blobtest.Fail, Err: fmt.Errorf("the store's words: %w", kind)})
		result, err := d.PutSnapshot(t.Context(), repotest.Prepare(t, d, repo.NewID(), repo.NewID(), repo.Fence{Epoch: 1, Counter: 1}))
		wantKind(t, "put", err, kind)
		wantWords(t, err, "the store's words")
		if result.Outcome != repo.OutcomeUnknown || errors.Is(err, errs.Unavailable) {
			t.Errorf("outcome %s, %v", result.Outcome, err)
		}
		faulty.Verify(t)
	}
}

func TestARefusalAfterADoubtfulPutLeavesItOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty, _, d := setup(t)
		at := func(n int, err error) blobtest.Fault {
			return blobtest.Fault{Op: blob.OpCreate, Prefix: repo.SnapshotsPrefix, Nth: n, Effect: blobtest.Fail, Err: err}
		}
		faulty.Plan(at(1, errs.Unavailable), at(2, errs.Exhausted))
		_, err := d.PutSnapshot(t.Context(), repotest.Prepare(t, d, repo.NewID(), repo.NewID(), repo.Fence{Epoch: 1, Counter: 1}))
		wantKind(t, "put", err, errs.Exhausted)
		if errs.KindOf(err) != errs.Unavailable {
			t.Errorf("put, the first of which may still arrive: %v", err)
		}
		faulty.Verify(t)
	})
}

func TestAPutWhoseContextEndsIsOpen(t *testing.T) {
	_, _, d := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	result, err := d.PutSnapshot(ctx, repotest.Prepare(t, d, repo.NewID(), repo.NewID(), repo.Fence{Epoch: 1, Counter: 1}))
	if errs.KindOf(err) != errs.Unavailable || !errors.Is(err, context.Canceled) || result.Outcome != repo.OutcomeUnknown {
		t.Errorf("%s, %v", result.Outcome, err)
	}
}

func TestTheSameAttemptAgainWithALaterTimeIsDone(t *testing.T) {
	_, _, d := setup(t)
	instance, job := repo.NewID(), repo.NewID()
	header := repo.SnapshotHeader{Kind: repo.KindLogical, Instance: instance, Job: job, Fence: repo.Fence{Epoch: 1, Counter: 1}, SealEpoch: 1}
	refs, content := bytes.Repeat([]byte{1}, 100), bytes.Repeat([]byte{2}, 100)
	var hashes [][32]byte
	for log := range uint64(2) {
		p, err := d.PrepareSnapshot(header, refs, content, repo.Commit{LogNumber: log})
		if err != nil {
			t.Fatal(err)
		}
		result, err := d.PutSnapshot(t.Context(), p)
		if err != nil || result.Outcome != repo.OutcomeDone {
			t.Errorf("put %d: %s, %v", log, result.Outcome, err)
		}
		hashes = append(hashes, result.Hash)
	}
	if hashes[0] != hashes[1] {
		t.Error("the hash told is not that of the object in the store")
	}
	p, err := d.PrepareSnapshot(header, refs, bytes.Repeat([]byte{3}, 100), repo.Commit{})
	if err != nil {
		t.Fatal(err)
	}
	if result, err := d.PutSnapshot(t.Context(), p); err != nil || result.Outcome != repo.OutcomeSuperseded {
		t.Errorf("the same attempt with other parts: %s, %v", result.Outcome, err)
	}
}

func TestDamageAnywhereInASnapshotIsFoundAndNamed(t *testing.T) {
	store := mem.New()
	r, d, _ := repotest.New(t, store)
	p := repotest.Prepare(t, d, repo.NewID(), repo.NewID(), repo.Fence{Epoch: 1, Counter: 1})
	if _, err := d.PutSnapshot(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	h := p.Header()
	good, err := blob.ReadAll(t.Context(), store, p.Key(), repo.MaxSnapshotBytes)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(raw []byte) {
		if err := store.Delete(t.Context(), p.Key()); err != nil {
			t.Fatal(err)
		}
		if err := store.Create(t.Context(), p.Key(), blob.Bytes(raw)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		replace(bad)
		if _, err := r.ReadSnapshot(t.Context(), h.Instance, h.Job); err == nil {
			t.Fatalf("byte %d: nobody noticed", i)
		}
	}
	for n := range good {
		replace(good[:n])
		_, _, err := repo.CheckSnapshot(t.Context(), store, p.Key(), nil)
		if err == nil {
			t.Fatalf("cut at %d: nobody noticed", n)
		}
		if n >= repo.SnapshotHeaderSize {
			wantKind(t, fmt.Sprintf("cut at %d", n), err, errs.Corrupt)
			wantWords(t, err, p.Key())
		}
	}
	// One damaged object hides no other.
	other := repotest.Prepare(t, d, h.Instance, repo.NewID(), repo.Fence{Epoch: 1, Counter: 2})
	if _, err := d.PutSnapshot(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	var whole, damaged int
	err = r.ListSnapshots(t.Context(), h.Instance, func(info repo.SnapshotInfo) error {
		if info.Err != nil {
			damaged++
			wantWords(t, info.Err, p.Key())
		} else {
			whole++
		}
		return nil
	})
	if err != nil || whole != 1 || damaged != 1 {
		t.Errorf("%d whole, %d damaged, %v", whole, damaged, err)
	}
	replace(good)
	refs := d.Keys().Refs()
	if _, got, err := repo.CheckSnapshot(t.Context(), store, p.Key(), &refs); err != nil || got.Chunks != 3 {
		t.Errorf("check with K_refs: %+v, %v", got, err)
	}
}

func TestASnapshotOfAnotherPlaceIsRefused(t *testing.T) {
	store := mem.New()
	r, d, _ := repotest.New(t, store)
	a := repotest.Prepare(t, d, repo.NewID(), repo.NewID(), repo.Fence{Epoch: 1, Counter: 1})
	if _, err := d.PutSnapshot(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	raw, err := blob.ReadAll(t.Context(), store, a.Key(), repo.MaxSnapshotBytes)
	if err != nil {
		t.Fatal(err)
	}
	instance, job := repo.NewID(), repo.NewID()
	if err := store.Create(t.Context(), repo.SnapshotObject(instance, job), blob.Bytes(raw)); err != nil {
		t.Fatal(err)
	}
	_, err = r.ReadSnapshot(t.Context(), instance, job)
	wantKind(t, "a snapshot under another key", err, errs.Corrupt)
	_, err = d.ResolveSnapshot(t.Context(), instance, job, repo.Fence{}, [32]byte{})
	wantKind(t, "resolve", err, errs.Corrupt)

	// The same domain id in another repository: the MAC binds the repository.
	otherStore := mem.New()
	other, _, _ := repotest.New(t, otherStore)
	if err := otherStore.Create(t.Context(), a.Key(), blob.Bytes(raw)); err != nil {
		t.Fatal(err)
	}
	if _, err := other.ReadSnapshot(t.Context(), a.Header().Instance, a.Header().Job); err == nil {
		t.Error("a snapshot of another repository was read")
	}
}

func TestPartsAreBoundToTheirSnapshot(t *testing.T) {
	_, _, d := setup(t)
	job := repo.NewID()
	refs, content := repotest.Manifest()
	sealedRefs, err := repo.SealReferences(refs, d.Keys().Refs(), d.ID(), job)
	if err != nil {
		t.Fatal(err)
	}
	sealedContent, err := repo.SealContent(content, d.Keys().Seal(1), d.ID(), job)
	if err != nil {
		t.Fatal(err)
	}
	_, err = repo.OpenReferences(sealedRefs, d.Keys().Refs(), d.ID(), repo.NewID())
	wantKind(t, "references of another snapshot", err, errs.Corrupt)
	_, err = repo.OpenContent(sealedContent, d.Keys().Seal(1), seal.DomainID{1}, job)
	wantKind(t, "content of another domain", err, errs.Corrupt)
	_, err = repo.OpenContent(sealedContent, d.Keys().Seal(2), d.ID(), job)
	wantKind(t, "content of another epoch", err, errs.Corrupt)
	_, err = repo.OpenContent(sealedRefs, d.Keys().Refs(), d.ID(), job)
	wantKind(t, "references as content", err, errs.Corrupt)
}

func TestPrepareRefusesWhatCannotBe(t *testing.T) {
	_, _, d := setup(t)
	part := bytes.Repeat([]byte{1}, 100)
	good := repo.SnapshotHeader{Kind: repo.KindLogical, Instance: repo.NewID(), Job: repo.NewID(), SealEpoch: 1}
	for what, change := range map[string]func(*repo.SnapshotHeader){
		"no kind":        func(h *repo.SnapshotHeader) { h.Kind = "" },
		"unknown kind":   func(h *repo.SnapshotHeader) { h.Kind = "physical" },
		"no seal epoch":  func(h *repo.SnapshotHeader) { h.SealEpoch = 0 },
		"future epoch":   func(h *repo.SnapshotHeader) { h.SealEpoch = 2 },
		"nothing at all": func(h *repo.SnapshotHeader) { *h = repo.SnapshotHeader{} },
	} {
		h := good
		change(&h)
		_, err := d.PrepareSnapshot(h, part, part, repo.Commit{})
		wantKind(t, what, err, errs.Invalid)
	}
	if _, err := d.PrepareSnapshot(good, part, part, repo.Commit{}); err != nil {
		t.Error(err)
	}
}

func TestSealEpochsAndGrants(t *testing.T) {
	store := mem.New()
	r, d, unlocker := repotest.New(t, store)
	w := d.WriteGrant()
	if w.NewestEpoch != 1 || len(w.Seal) != 1 || w.Cut == (seal.Key{}) {
		t.Errorf("write grant has epoch %d, %d keys", w.NewestEpoch, len(w.Seal))
	}
	if e, err := d.BumpSealEpoch(t.Context()); err != nil || e != 2 {
		t.Fatalf("bump: %d, %v", e, err)
	}
	reopened, err := repo.Open(t.Context(), store, unlocker)
	if err != nil {
		t.Fatal(err)
	}
	again, err := reopened.Domain(t.Context(), d.ID())
	if err != nil || again.Keys() != d.Keys() || again.SealEpoch() != 2 || again.Params() != d.Params() || !again.SealSince().Equal(d.SealSince()) {
		t.Fatalf("the domain read again differs: epoch %d, %v", again.SealEpoch(), err)
	}
	if _, ok := again.WriteGrant().Seal[1]; ok {
		t.Error("a write grant has an old epoch's key")
	}
	read, err := again.ReadGrant(repo.EpochsUpTo(2))
	if err != nil || len(read.Seal) != 2 || read.Cut != (seal.Key{}) || read.Seal[1] != w.Seal[1] {
		t.Errorf("read grant: %d keys, %v", len(read.Seal), err)
	}
	for _, epochs := range [][]uint32{nil, {0}, {3}} {
		_, err := again.ReadGrant(epochs)
		wantKind(t, fmt.Sprint("grant of epochs ", epochs), err, errs.Invalid)
	}
	// The first process has not seen what the second one does next.
	if _, err := again.BumpSealEpoch(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = d.BumpSealEpoch(t.Context())
	wantKind(t, "bump behind another process", err, errs.Conflict)
	if d.SealEpoch() != 3 {
		t.Errorf("after the conflict the epoch is %d", d.SealEpoch())
	}
	_, err = r.Domain(t.Context(), seal.DomainID{1})
	wantKind(t, "no such domain", err, errs.NotFound)
	var ids []seal.DomainID
	if err := r.Domains(t.Context(), func(id seal.DomainID) error { ids = append(ids, id); return nil }); err != nil || len(ids) != 1 || ids[0] != d.ID() {
		t.Errorf("domains: %v, %v", ids, err)
	}
}

func TestDamageAnywhereInADomainsRecordIsFound(t *testing.T) {
	store := mem.New()
	_, d, unlocker := repotest.New(t, store)
	key := repo.DomainObject(d.ID(), 1)
	good, err := blob.ReadAll(t.Context(), store, key, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 7)
		if err := store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if err := store.Create(t.Context(), key, blob.Bytes(bad)); err != nil {
			t.Fatal(err)
		}
		r, err := repo.Open(t.Context(), store, unlocker)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Domain(t.Context(), d.ID())
		// The letter case of a JSON key says nothing; anything else must be noticed.
		if err == nil && (got.Keys() != d.Keys() || got.Params() != d.Params() || got.SealEpoch() != 1) {
			t.Fatalf("byte %d: another domain was read", i)
		}
	}
}

func TestCAsAreKeptSealed(t *testing.T) {
	store := mem.New()
	r, _, _ := repotest.New(t, store)
	ctx := t.Context()
	bundle := []byte("a certificate and its key")
	if err := r.PutCA(ctx, "0a1f", bundle); err != nil {
		t.Fatal(err)
	}
	if err := r.PutCA(ctx, "0a1f", bundle); err != nil {
		t.Errorf("the same again: %v", err)
	}
	wantKind(t, "another under the same serial", r.PutCA(ctx, "0a1f", []byte("other")), errs.Exists)
	if got, err := r.CA(ctx, "0a1f"); err != nil || !bytes.Equal(got, bundle) {
		t.Errorf("got %q, %v", got, err)
	}
	raw, err := blob.ReadAll(ctx, store, repo.CAObject("0a1f"), 1<<10)
	if err != nil || bytes.Contains(raw, bundle[:8]) {
		t.Errorf("the bundle is in clear, %v", err)
	}
	for _, serial := range []string{"", "XY", "../keys", "0A"} {
		wantKind(t, "serial "+serial, r.PutCA(ctx, serial, bundle), errs.Invalid)
	}
	_, err = r.CA(ctx, "ff")
	wantKind(t, "no such ca", err, errs.NotFound)
	var serials []string
	if err := r.CAs(ctx, func(s string) error { serials = append(serials, s); return nil }); err != nil || len(serials) != 1 {
		t.Errorf("%v, %v", serials, err)
	}
}

func TestFindSnapshotWalksAllInstances(t *testing.T) {
	_, r, d := setup(t)
	var last *repo.PreparedSnapshot
	for i := range 5 {
		last = repotest.Prepare(t, d, repo.NewID(), repo.NewID(), repo.Fence{Epoch: 1, Counter: uint64(i)})
		if _, err := d.PutSnapshot(t.Context(), last); err != nil {
			t.Fatal(err)
		}
	}
	instance, err := r.FindSnapshot(t.Context(), last.Header().Job)
	if err != nil || instance != last.Header().Instance {
		t.Errorf("%s, %v", instance, err)
	}
	_, err = r.FindSnapshot(t.Context(), repo.NewID())
	wantKind(t, "no such snapshot", err, errs.NotFound)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = r.FindSnapshot(ctx, last.Header().Job)
	if errs.KindOf(err) != errs.Canceled {
		t.Errorf("canceled: %v", err)
	}
}
