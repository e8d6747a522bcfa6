package ingest_test

import (
	"errors"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/check"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pack"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// inspect checks the world's repository and tells the server what is bad.
func (w *world) inspect() *check.Report {
	w.t.Helper()
	r, err := check.Run(w.t.Context(), w.store, check.Options{Repository: w.repo, Dir: w.t.TempDir(), ReadData: true, Sample: check.Whole})
	must(w.t, err)
	w.server.Distrust(r.BadPacks...)
	return r
}

// TestTheNextBackupHealsWhatIsKnownToBeDamaged: without the mark the next backup
// would be told that the damaged chunk is stored, and the old snapshot would
// stay broken for ever.
func TestTheNextBackupHealsWhatIsKnownToBeDamaged(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 20, 1000)
	old := repo.NewID()
	_, _, err := a.backup(old, 1, chunks)
	must(t, err)
	pack := w.damage(chunks[7])
	if _, err := a.restore(old, a.instance); !errors.Is(err, errs.Corrupt) {
		t.Fatalf("restore of a damaged chunk: %v", err)
	}
	r := w.inspect()
	if len(r.BadPacks) != 1 || r.BadPacks[0].Pack != pack || len(r.BadPacks[0].Frames) != 1 || len(r.Snapshots) != 1 || r.Snapshots[0].Snapshot != old {
		t.Fatalf("report: %+v", r)
	}
	next := repo.NewID()
	sent, _, err := a.backup(next, 2, chunks)
	must(t, err)
	if sent != 1 {
		t.Errorf("%d chunks were sent again, one is damaged", sent)
	}
	assertRestored(t, a, old, chunks)
	assertRestored(t, a, next, chunks)
	if r := w.inspect(); len(r.Snapshots) != 0 {
		t.Errorf("after healing: %+v", r)
	}
	// A good copy is there now: nothing is sent a third time.
	if sent, _, err = a.backup(repo.NewID(), 3, chunks); err != nil || sent != 0 {
		t.Errorf("third backup: %d chunks, %v", sent, err)
	}
}

func TestAPackOfWhichNothingCountsIsSentAgainWhole(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 20, 1000)
	old := repo.NewID()
	_, _, err := a.backup(old, 1, chunks)
	must(t, err)
	for _, p := range w.catalog.Packs(func(ingest.PackRecord) bool { return true }) {
		must(t, w.store.Delete(t.Context(), repo.PackObject(p.Domain, p.ID)))
	}
	if r := w.inspect(); len(r.BadPacks) == 0 || !r.BadPacks[0].Whole {
		t.Fatalf("report: %+v", r)
	}
	sent, _, err := a.backup(repo.NewID(), 2, chunks)
	must(t, err)
	if sent < len(chunks)+2 {
		t.Errorf("%d chunks were sent again, all are gone", sent)
	}
	assertRestored(t, a, old, chunks)
}

func TestWhatIsTrustedAgainIsNotSentAgain(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 20, 1000)
	_, _, err := a.backup(repo.NewID(), 1, chunks)
	must(t, err)
	for _, p := range w.catalog.Packs(func(ingest.PackRecord) bool { return true }) {
		bad := check.BadPack{Domain: p.Domain, Pack: p.ID, Whole: true}
		w.server.Distrust(bad, bad) // twice is once
		w.server.Trust(p.Domain, p.ID)
		frames := check.BadPack{Domain: p.Domain, Pack: p.ID, Frames: []check.BadFrame{{Name: chunks[3].name, Offset: 24}}}
		w.server.Distrust(frames)
		w.server.Trust(p.Domain, p.ID, p.ID)
	}
	if sent, _, err := a.backup(repo.NewID(), 2, chunks); err != nil || sent != 0 {
		t.Errorf("%d chunks were sent again: %v", sent, err)
	}
}

// TestACommitDoesNotRestOnWhatWasFoundDamagedMeanwhile: the agent asked before
// the scrub looked.
func TestACommitDoesNotRestOnWhatWasFoundDamagedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 20, 1000)
	_, _, err := a.backup(repo.NewID(), 1, chunks)
	must(t, err)
	job := repo.NewID()
	ref, m := a.lease(job, 2), a.manifest(job, chunks)
	all := append([]chunkFrame{a.archive()}, chunks...)
	if sent, _, err := a.store(ref, append(all, m.lists...)...); err != nil || sent != 0 {
		t.Fatalf("%d sent, %v", sent, err)
	}
	w.damage(chunks[7])
	w.inspect()
	if err := a.commit(ref, m); !errors.Is(err, errs.Unavailable) {
		t.Fatalf("commit on a damaged chunk: %v, want one that is tried again", err)
	}
	if sent, _, err := a.store(ref, append(all, m.lists...)...); err != nil || sent != 1 {
		t.Errorf("%d sent again, %v", sent, err)
	}
	must(t, a.commit(ref, m))
	assertRestored(t, a, job, chunks)
}

// TestWhatAHostUploadedIsSentAgain: the packs of a host that was in somebody's
// hands are not answered for, and what says that they are sound does not change it.
func TestWhatAHostUploadedIsSentAgain(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 20, 1000)
	old := repo.NewID()
	_, _, err := a.backup(old, 1, chunks)
	must(t, err)
	var packs []pack.ID
	must(t, w.store.List(t.Context(), repo.PacksPrefix, "", func(info blob.Info) error {
		_, id, err := repo.ParsePackObject(info.Key)
		packs = append(packs, id)
		return err
	}))
	w.server.DistrustHost(a.domain, packs...)
	w.server.Distrust(check.BadPack{Domain: a.domain, Pack: packs[0], Whole: true})
	w.server.Trust(a.domain, packs...) // a scrub found them whole
	next := repo.NewID()
	sent, _, err := a.backup(next, 2, chunks)
	must(t, err)
	if sent < len(chunks) { // and their lists
		t.Errorf("%d of %d chunks were sent again", sent, len(chunks))
	}
	assertRestored(t, a, old, chunks)
	assertRestored(t, a, next, chunks)
	if sent, _, err = a.backup(repo.NewID(), 3, chunks); err != nil || sent != 0 {
		t.Errorf("third backup: %d chunks, %v", sent, err)
	}
}
