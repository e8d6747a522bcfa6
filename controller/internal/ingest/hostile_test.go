package ingest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tuskvault/tuskvault/controller/internal/ingest"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func shared(g *ingest.Grant) { g.Shared = true }

// A stolen host of a shared domain stores rubbish under the name of another's chunk.
func TestRubbishUnderAnothersNameDeceivesOnlyItsSender(t *testing.T) {
	w := newWorld(t)
	w.start()
	victim, thief := w.agent(), w.agent()
	chunks := victim.rows(1, 20, 1000)
	var rubbish []chunkFrame
	for _, c := range chunks {
		r := c
		var err error
		r.frame, err = thief.sealer.Seal(nil, c.kind, c.name, []byte("rubbish"))
		must(t, err)
		r.hash = seal.HashFrame(r.frame)
		rubbish = append(rubbish, r)
	}
	job := repo.NewID()
	ref := thief.lease(repo.NewID(), 1, shared)
	u, err := thief.begin(ref)
	must(t, err)
	must(t, u.put(rubbish...))
	must(t, u.flush())
	must(t, u.end())
	must(t, w.server.EndJob(t.Context(), mustID(t, ref.GetJobId())))

	// The victim is told that all of it is missing, sends it, and reads its own back.
	ref = victim.lease(job, 2, shared)
	m := victim.manifest(job, chunks)
	sent, _, err := victim.store(ref, append(append(chunks, victim.archive()), m.lists...)...)
	must(t, err)
	if sent < len(chunks) {
		t.Fatalf("the victim sent %d of %d chunks: it was told that the thief's are its own", sent, len(chunks))
	}
	must(t, victim.commit(ref, m))
	assertRestored(t, victim, job, chunks)

	// And the thief is not told what the victim has.
	theirs := victim.rows(2, 3, 1000)
	_, _, err = victim.store(victim.lease(repo.NewID(), 3, shared), theirs...)
	must(t, err)
	u, err = thief.begin(thief.lease(repo.NewID(), 4, shared))
	must(t, err)
	missing, err := u.missing(theirs...)
	must(t, err)
	if len(missing) != len(theirs) {
		t.Fatalf("the thief was told that %d of another's chunks are there", len(theirs)-len(missing))
	}
	must(t, u.end())
}

func TestRubbishIsNeverOpenedAsGood(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	chunks := a.rows(1, 3, 1000)
	var err error
	chunks[1].frame, err = a.sealer.Seal(nil, chunks[1].kind, chunks[1].name, []byte("rubbish"))
	must(t, err)
	chunks[1].hash = seal.HashFrame(chunks[1].frame)
	job := repo.NewID()
	_, _, err = a.backup(job, 1, chunks)
	must(t, err) // the controller cannot know
	if _, err := a.restore(job, a.instance); !errors.Is(err, errs.Corrupt) {
		t.Fatalf("got %v", err)
	}
}

func TestFramesThatNoAgentOfTheAttemptMakesAreRefused(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	d, err := w.repo.Domain(t.Context(), w.domain)
	must(t, err)
	good := a.rows(1, 1, 1000)[0]
	later := seal.NewSealer(w.domain, 2, d.Keys().Seal(2), d.Keys().Refs())
	future, err := later.Seal(nil, good.kind, good.name, good.plain)
	must(t, err)
	page, err := a.sealer.Seal(nil, seal.KindPage, good.name, good.plain)
	must(t, err)
	for name, tt := range map[string]struct {
		frames [][]byte
		hash   []byte
		want   error
	}{
		"of another epoch":        {frames: [][]byte{future}, want: errs.Denied},
		"of a kind not in use":    {frames: [][]byte{page}, want: errs.Invalid},
		"cut short":               {frames: [][]byte{good.frame[:len(good.frame)-1]}, want: errs.Invalid},
		"with bytes behind":       {frames: [][]byte{append(append([]byte(nil), good.frame...), 0)}, want: errs.Invalid},
		"without a magic":         {frames: [][]byte{append([]byte("XXXX"), good.frame[4:]...)}, want: errs.Invalid},
		"damaged on the way":      {frames: [][]byte{good.frame}, hash: make([]byte, 32), want: errs.Corrupt},
		"without a hash":          {frames: [][]byte{good.frame}, hash: []byte{}, want: errs.Invalid},
		"none":                    {frames: nil, hash: []byte{}, want: errs.Invalid},
		"larger than all at once": {frames: [][]byte{make([]byte, 3<<20)}, want: errs.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := a.begin(a.lease(repo.NewID(), 1))
			must(t, err)
			defer u.cancel()
			if tt.hash == nil {
				for _, f := range tt.frames {
					h := seal.HashFrame(f)
					tt.hash = append(tt.hash, h[:]...)
				}
			}
			_ = u.rpc.Send(&tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Put{
				Put: &tuskvaultv1.UploadPut{Frames: tt.frames, FrameHashes: tt.hash}}})
			if _, err := u.next(); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
		})
	}
	if n := w.store.Creates("packs"); n != 0 {
		t.Fatalf("%d packs were made of refused frames", n)
	}
}

func TestSendingBeyondTheWindowIsRefused(t *testing.T) {
	w := newWorld(t)
	w.start()
	a := w.agent()
	u, err := a.begin(a.lease(repo.NewID(), 1))
	must(t, err)
	defer u.cancel()
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(i * i >> 7)
	}
	c := a.chunk(seal.KindArchive, noise)
	// The controller spools as fast as it reads, so only a single message can be
	// surely beyond: one that says it is more than the whole window.
	frames, hashes := [][]byte{}, []byte{}
	for n := int64(0); n <= u.window; n += int64(len(c.frame)) {
		frames, hashes = append(frames, c.frame), append(hashes, c.hash[:]...)
	}
	_ = u.rpc.Send(&tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Put{
		Put: &tuskvaultv1.UploadPut{Frames: frames, FrameHashes: hashes}}})
	if _, err := u.next(); !errors.Is(err, errs.Invalid) {
		t.Fatalf("got %v", err)
	}
}

func TestOnlyTheCurrentAttemptOfTheAgentItselfMayUpload(t *testing.T) {
	w := newWorld(t)
	w.start()
	a, other := w.agent(), w.agent()
	job := repo.NewID()
	old := a.lease(job, 1)
	current := a.lease(job, 2)
	for name, tt := range map[string]struct {
		agent *agent
		ref   *tuskvaultv1.AttemptRef
		want  error
	}{
		"an old fence":       {a, old, errs.Conflict},
		"another agent":      {other, current, errs.Denied},
		"an unknown job":     {a, &tuskvaultv1.AttemptRef{JobId: repo.NewID().String()}, errs.NotFound},
		"no job":             {a, &tuskvaultv1.AttemptRef{JobId: "main"}, errs.Invalid},
		"a restore's grant":  {a, a.leaseRestore(job, a.instance), errs.Denied},
		"a message too soon": {a, nil, errs.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tt.agent.begin(tt.ref); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// Chunks of another domain cannot be asked for, nor does storing them help.
func TestAnotherDomainIsOutOfReach(t *testing.T) {
	w := newWorld(t)
	w.start()
	a, foreign := w.agent(), w.agent()
	id, err := w.repo.CreateDomain(t.Context())
	must(t, err)
	foreign.useDomain(id)
	theirs := foreign.rows(1, 4, 1000)
	_, _, err = foreign.store(foreign.lease(repo.NewID(), 1), theirs...)
	must(t, err)
	u, err := a.begin(a.lease(repo.NewID(), 2))
	must(t, err)
	missing, err := u.missing(theirs...)
	must(t, err)
	if len(missing) != len(theirs) {
		t.Fatalf("%d chunks of a foreign domain were called present", len(theirs)-len(missing))
	}
	must(t, u.end())
	// A commit sealed for that domain is not one of ours.
	ref := a.lease(repo.NewID(), 3)
	m := foreign.manifest(mustID(t, ref.GetJobId()), theirs)
	if err := a.commit(ref, m); !errors.Is(err, errs.Invalid) {
		t.Fatalf("got %v", err)
	}
}

func TestManifestsThatNameWhatIsNotThereAreRefusedByName(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(m *manifest, all []chunkFrame, absent chunkFrame) []chunkFrame
		names  func(m *manifest, absent chunkFrame) string
		want   error
	}{
		"a chunk that was not sent": {
			change: func(_ *manifest, all []chunkFrame, absent chunkFrame) []chunkFrame {
				var kept []chunkFrame
				for _, c := range all {
					if c.name != absent.name {
						kept = append(kept, c)
					}
				}
				return kept
			},
			names: func(_ *manifest, absent chunkFrame) string { return absent.name.String() },
			want:  errs.Denied,
		},
		"a list that was not sent": {
			change: func(m *manifest, all []chunkFrame, _ chunkFrame) []chunkFrame { return all[:len(all)-len(m.lists)] },
			names:  func(m *manifest, _ chunkFrame) string { return m.lists[0].name.String() },
			want:   errs.Denied,
		},
		"a list that is shorter": {
			change: func(m *manifest, all []chunkFrame, _ chunkFrame) []chunkFrame {
				m.refs.Lists[0].Entries++
				m.refs.Chunks++
				return all
			},
			names: func(*manifest, chunkFrame) string { return "list 0" },
			want:  errs.Corrupt,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			a := w.agent()
			chunks, absent := a.rows(1, 10, 1000), a.rows(2, 1, 1000)[0]
			job := repo.NewID()
			ref := a.lease(job, 1)
			m := a.manifest(job, append(append([]chunkFrame(nil), chunks...), absent))
			all := append(append([]chunkFrame{a.archive()}, chunks...), absent)
			all = tt.change(m, append(all, m.lists...), absent)
			var err error
			m.references, err = repo.SealReferences(m.refs, a.grant.Refs, a.domain, job)
			must(t, err)
			u, err := a.begin(ref)
			must(t, err)
			must(t, u.put(all...))
			must(t, u.flush())
			must(t, u.end())
			err = a.commit(ref, m)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.names(m, absent)) {
				t.Fatalf("got %v, want %v that names %s", err, tt.want, tt.names(m, absent))
			}
			if _, ok := w.catalog.Snapshot(job); ok {
				t.Fatal("a snapshot was made")
			}
		})
	}
}

func TestADownloadStaysWithinItsGrant(t *testing.T) {
	w := newWorld(t)
	w.start()
	a, other := w.agent(), w.agent()
	chunks := a.rows(1, 10, 1000)
	job := repo.NewID()
	_, _, err := a.backup(job, 1, chunks)
	must(t, err)
	otherDomain, err := w.repo.CreateDomain(t.Context())
	must(t, err)

	for name, tt := range map[string]struct {
		ref  *tuskvaultv1.AttemptRef
		who  *agent
		want error
	}{
		"a backup's grant":             {a.lease(repo.NewID(), 1), a, errs.Denied},
		"another agent's grant":        {a.leaseRestore(job, a.instance), other, errs.Denied},
		"a snapshot that is not there": {a.leaseRestore(repo.NewID(), a.instance), a, errs.NotFound},
		"another instance's snapshot":  {other.leaseRestore(job, other.instance), other, errs.NotFound},
		"a grant of another domain": {other.lease(repo.NewID(), 1, func(g *ingest.Grant) {
			g.Kind, g.Snapshot, g.SnapshotInstance, g.Domain = ingest.KindRestore, job, a.instance, otherDomain
		}), other, errs.Corrupt},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := tt.who.download(tt.ref, true)
			must(t, err)
			defer d.cancel()
			if _, err := d.object(); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
		})
	}
	for name, r := range map[string]*tuskvaultv1.DownloadRange{
		"a list beyond the last":      {List: 99, Count: 1},
		"an entry beyond the last":    {First: 11, Count: 1},
		"more entries than there are": {Count: 12},
		"a sum that overflows":        {First: 1, Count: 1<<32 - 1},
		"no entry":                    {},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := a.download(a.leaseRestore(job, a.instance), false)
			must(t, err)
			defer d.cancel()
			if _, err := d.ask(r, 1); !errors.Is(err, errs.Invalid) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func mustID(t *testing.T, s string) repo.ID {
	t.Helper()
	id, err := repo.ParseID(s)
	must(t, err)
	return id
}
