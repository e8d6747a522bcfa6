package repo_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// reigning is a repository with a log, two domains, an authority and a second key.
type reigning struct {
	t          *testing.T
	inner      blob.Store
	store      *blobtest.Faulty
	repository *repo.Repository
	log        *repo.Log
	epoch      uint64
	domain     *repo.Domain
	roots      map[seal.DomainID]seal.DomainKeys
	first      *seal.KeyFile
	second     *seal.KeyFile
	secondID   repo.ID
	payloads   []string
}

func newReigning(t *testing.T) *reigning {
	t.Helper()
	inner := mem.New()
	w := &reigning{t: t, inner: inner, store: blobtest.NewFaulty(inner), second: seal.NewKeyFile(), secondID: repo.NewID(), roots: map[seal.DomainID]seal.DomainKeys{}}
	w.repository, w.domain, w.first = repotest.New(t, w.store)
	other, err := w.repository.CreateDomain(t.Context())
	w.must(err)
	d, err := w.repository.Domain(t.Context(), other)
	w.must(err)
	w.roots[w.domain.ID()], w.roots[other] = w.domain.Keys(), d.Keys()
	w.must(w.repository.AddKey(t.Context(), w.secondID, w.second))
	w.must(w.repository.PutCA(t.Context(), "0a1f", []byte("authority")))
	w.epoch, err = w.repository.ClaimEpoch(t.Context())
	w.must(err)
	w.log, err = repo.OpenLog(t.Context(), w.repository, w.epoch)
	w.must(err)
	w.append("one")
	w.append("two")
	return w
}

func (w *reigning) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *reigning) append(payload string) repo.Witness {
	w.t.Helper()
	at, err := w.log.Append(w.t.Context(), repo.LogSynchronous, []byte(payload))
	w.must(err)
	w.payloads = append(w.payloads, payload)
	return at
}

// rotate changes the master key; only the first key goes on.
func (w *reigning) rotate(ctx context.Context) (uint64, error) {
	return w.repository.RotateMaster(ctx, w.log, []repo.Rewrap{w.repository.Own()}, []repo.ID{w.secondID})
}

// reopen opens the store as the next process would.
func (w *reigning) reopen(store blob.Store) (*repo.Repository, error) {
	return repo.Open(w.t.Context(), store, w.first)
}

// whole holds against a repository everything that was in it before.
func (w *reigning) whole(r *repo.Repository, what string) {
	w.t.Helper()
	ctx := w.t.Context()
	for id, want := range w.roots {
		d, err := r.Domain(ctx, id)
		if err != nil || d.Keys() != want {
			w.t.Errorf("%s: domain %s: other roots, or %v", what, id, err)
		}
	}
	if ca, err := r.CA(ctx, "0a1f"); string(ca) != "authority" || err != nil {
		w.t.Errorf("%s: authority %q, %v", what, ca, err)
	}
	serials := 0
	w.must(r.CAs(ctx, func(string) error { serials++; return nil }))
	if serials != 1 {
		w.t.Errorf("%s: %d authorities", what, serials)
	}
	if _, err := r.Epoch(ctx, 1); err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
	var got []string
	_, err := r.ReplayLog(ctx, func(rec *repo.LogRecord) error { got = append(got, string(rec.Payload)); return nil })
	if err != nil || fmt.Sprint(got) != fmt.Sprint(w.payloads) {
		w.t.Errorf("%s: log %q, want %q, %v", what, got, w.payloads, err)
	}
}

func TestAMasterKeyIsReplacedAndEverythingStaysReadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReigning(t)
		ctx := t.Context()
		n, err := w.rotate(ctx)
		if n != 2 || err != nil || w.repository.Master() != 2 {
			t.Fatalf("master key %d, %v", n, err)
		}
		w.append("three")
		w.whole(w.repository, "the one that goes on")
		if _, err := w.domain.BumpSealEpoch(ctx); err != nil {
			t.Error(err)
		}
		made, err := w.repository.CreateDomain(ctx)
		w.must(err)
		d, err := w.repository.Domain(ctx, made)
		w.must(err)
		w.roots[made] = d.Keys()
		r, err := w.reopen(w.store)
		w.must(err)
		w.whole(r, "opened again")
		if d, err := r.Domain(ctx, w.domain.ID()); err != nil || d.SealEpoch() != 2 {
			t.Errorf("a seal epoch of after: %v", err)
		}
		// The key that was not wrapped anew opens nothing any more, and is told why.
		if _, err := repo.Open(ctx, w.store, w.second); errs.KindOf(err) != errs.Denied || !strings.Contains(err.Error(), "was replaced on") {
			t.Errorf("the lost key: %v", err)
		}
		if ids, err := r.KeyIDs(ctx); len(ids) != 1 || err != nil {
			t.Errorf("%d keys, %v", len(ids), err)
		}
		w.must(r.AddKey(ctx, w.secondID, w.second)) // the same id and secret again
		if r, err = repo.Open(ctx, w.store, w.second); err != nil {
			t.Fatal(err)
		}
		w.whole(r, "by the key that was added again")

		// And once more, after which nothing is left of those before.
		if n, err = w.rotate(ctx); n != 3 || err != nil {
			t.Fatalf("master key %d, %v", n, err)
		}
		w.append("four")
		dropped, kept, err := w.repository.DropReplaced(ctx, w.log, func([]string) error { return nil })
		if dropped == 0 || kept != 0 || err != nil {
			t.Errorf("dropped %d, kept %d, %v", dropped, kept, err)
		}
		if again, _, err := w.repository.DropReplaced(ctx, w.log, func([]string) error { return nil }); again != 0 || err != nil {
			t.Errorf("dropped %d again, %v", again, err)
		}
		w.must(w.store.List(ctx, "", "", func(info blob.Info) error {
			kind, _, _ := strings.Cut(info.Key, "/")
			if (kind == "keys" || kind == "ca") && !strings.HasSuffix(info.Key, "-00000000000000000003") {
				t.Errorf("%s is left", info.Key)
			}
			if kind == "domains" {
				text, err := blob.ReadAll(ctx, w.store, info.Key, 1<<16)
				w.must(err)
				if d, err := repo.InspectDomain(info.Key, text); err != nil || d.Master != 3 {
					t.Errorf("%s: master key %d is left, %v", info.Key, d.Master, err)
				}
			}
			return nil
		}))
		if r, err = w.reopen(w.store); err != nil {
			t.Fatal(err)
		}
		w.whole(r, "after the old has gone")
	})
}

// shorten puts a full record and drops the log up to it, as 30 days do.
func TestAMasterKeyIsInForceAlsoWhenItsLogRecordIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReigning(t)
		ctx := t.Context()
		old, err := repo.Open(ctx, w.store, w.second)
		w.must(err)
		if old.Master() != 1 {
			t.Fatal(old.Master())
		}
		_, err = w.rotate(ctx)
		w.must(err)
		at := w.append("three")
		w.must(w.log.PutFull(ctx, at, []byte("all of it")))
		for n := range at.Number {
			w.must(w.store.Delete(ctx, repo.LogObject(n+1)))
		}
		w.payloads = []string{"all of it"}
		r, err := w.reopen(w.store)
		w.must(err)
		if r.Master() != 2 {
			t.Errorf("master key %d", r.Master())
		}
		w.whole(r, "a shortened log")
		if _, err := repo.Open(ctx, w.store, w.second); errs.KindOf(err) != errs.Denied {
			t.Errorf("the lost key: %v", err)
		}
	})
}

func TestAChangeOfTheMasterKeyThatIsCutOffAnywhereLeavesOneOfTheTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps := 0
		for n := 0; ; n++ {
			w := newReigning(t)
			w.store.StopAfter(n)
			_, err := w.rotate(t.Context())
			done := err == nil
			if done && w.store.Stopped() {
				t.Fatalf("%d steps: done on a store that has stopped", n)
			}
			back := blobtest.NewFaulty(w.inner)
			r, openErr := w.reopen(back)
			if openErr != nil {
				t.Fatalf("%d steps: %v (rotation: %v)", n, openErr, err)
			}
			w.whole(r, fmt.Sprintf("%d steps", n))
			if done && r.Master() != 2 {
				t.Fatalf("%d steps: acknowledged, and master key %d is in force", n, r.Master())
			}
			// The second key opens as long as the old master key is in force.
			if _, err := repo.Open(t.Context(), back, w.second); (err == nil) != (r.Master() == 1) {
				t.Errorf("%d steps: master key %d, the key that will be lost: %v", n, r.Master(), err)
			}
			w.goOn(back, r, n)
			if done {
				steps = n
				break
			}
		}
		if steps < 6 { // wrap, authority, two domains, succession, record
			t.Errorf("only %d steps", steps)
		}
	})
}

// goOn is the life of the next process after a change that was cut off: it takes
// the log up where the old one noted it, changes the key, and cleans up.
func (w *reigning) goOn(store *blobtest.Faulty, r *repo.Repository, n int) {
	w.t.Helper()
	ctx := w.t.Context()
	_, noted, err := r.LogRecord(ctx, 2)
	w.must(err)
	if w.log, err = repo.OpenLogAt(ctx, r, w.epoch, noted); err != nil {
		w.t.Fatalf("%d steps: %v", n, err)
	}
	w.repository, w.store = r, store
	before := r.Master()
	w.append("after")
	if w.domain, err = r.Domain(ctx, w.domain.ID()); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.domain.BumpSealEpoch(ctx); err != nil {
		w.t.Errorf("%d steps: seal epoch: %v", n, err)
	}
	if made, err := w.rotate(ctx); err != nil || made <= before {
		w.t.Fatalf("%d steps: again: %d after %d, %v", n, made, before, err)
	}
	w.append("and more")
	if _, _, err := r.DropReplaced(ctx, w.log, func([]string) error { return nil }); err != nil {
		w.t.Error(err)
	}
	again, err := w.reopen(store)
	w.must(err)
	w.whole(again, fmt.Sprintf("%d steps, changed again", n))
}

func TestARotationWhoseRecordGotNoAnswerIsSettledByTheNextRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, arrived := range []bool{true, false} {
			w := newReigning(t)
			effect := blobtest.Fail
			if arrived {
				effect = blobtest.Ambiguous
			}
			w.store.Plan(blobtest.Fault{Op: blob.OpCreate, Prefix: repo.LogObject(3), Nth: 1, Effect: effect})
			for n := range 4 { // as often as it is tried
				if arrived {
					w.store.Plan(blobtest.Fault{Op: blob.OpOpen, Prefix: repo.LogObject(3), Nth: n + 1, Effect: blobtest.Fail})
				} else if n > 0 {
					w.store.Plan(blobtest.Fault{Op: blob.OpCreate, Prefix: repo.LogObject(3), Nth: n + 1, Effect: blobtest.Fail})
				}
			}
			_, err := w.rotate(t.Context())
			if !errors.Is(err, errs.Unavailable) {
				t.Fatalf("arrived %t: %v", arrived, err)
			}
			w.store.Verify(t)
			// Nothing is sealed under either key meanwhile.
			gone, end := context.WithCancel(t.Context())
			end()
			if _, err := w.repository.CreateDomain(gone); err == nil {
				t.Errorf("arrived %t: a domain was made while it is undecided", arrived)
			}
			w.append("three")
			if w.repository.Master() != 2 {
				t.Errorf("arrived %t: master key %d", arrived, w.repository.Master())
			}
			w.whole(w.repository, "settled")
			r, err := w.reopen(w.store)
			w.must(err)
			w.whole(r, "opened again")
		}
	})
}

func TestTheLogDecidesBetweenANewMasterKeyAndATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReigning(t)
		ctx := t.Context()
		r, err := w.reopen(w.store)
		w.must(err)
		epoch, err := r.ClaimEpoch(ctx)
		w.must(err)
		newer, err := repo.OpenLog(ctx, r, epoch)
		w.must(err)
		if _, err := newer.Append(ctx, repo.LogSynchronous, nil); err != nil {
			t.Fatal(err)
		}
		w.payloads = append(w.payloads, "")
		conflict := new(repo.LogConflict)
		if _, err := w.rotate(ctx); !errors.As(err, &conflict) || !conflict.TakenOver() {
			t.Errorf("a change of the master key by a controller that was replaced: %v", err)
		}
		again, err := w.reopen(w.store)
		w.must(err)
		if again.Master() != 1 {
			t.Errorf("master key %d", again.Master())
		}
		w.whole(again, "after the take-over")

		// The other way round, the newer one has to open the repository anew.
		w = newReigning(t)
		r, err = w.reopen(w.store)
		w.must(err)
		epoch, err = r.ClaimEpoch(ctx)
		w.must(err)
		newer, err = repo.OpenLog(ctx, r, epoch)
		w.must(err)
		_, err = w.rotate(ctx)
		w.must(err)
		if _, err := newer.Append(ctx, repo.LogSynchronous, nil); !errors.As(err, &conflict) {
			t.Errorf("a take-over behind a change of the master key: %v", err)
		}
		if again, err = w.reopen(w.store); err != nil || again.Master() != 2 {
			t.Errorf("open: %v", err)
		}
	})
}

func TestAnOldMasterKeyForgesNothingOnceItWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newReigning(t)
		ctx := t.Context()
		// Who has the old key, and may write to the store, before the change.
		thief, err := repo.Open(ctx, w.store, w.second)
		w.must(err)
		stale, err := repo.OpenLog(ctx, thief, w.epoch)
		w.must(err)
		d, err := thief.Domain(ctx, w.domain.ID())
		w.must(err)
		_, err = w.rotate(ctx)
		w.must(err)
		w.append("three")
		_, _, err = w.repository.DropReplaced(ctx, w.log, func([]string) error { return nil })
		w.must(err)
		// A domain of his own, a generation of another's, an authority, a log record, rubbish.
		forged, err := thief.CreateDomain(ctx)
		w.must(err)
		if _, err := d.BumpSealEpoch(ctx); err != nil && errs.KindOf(err) != errs.Conflict && errs.KindOf(err) != errs.Corrupt {
			t.Error(err)
		}
		w.must(thief.PutCA(ctx, "bad", []byte("his")))
		w.must(w.store.Create(ctx, repo.SuccessionObject(9), blob.Bytes([]byte("{}"))))
		w.must(w.store.Delete(ctx, repo.LogObject(4)))
		if _, err := stale.Append(ctx, repo.LogSynchronous, []byte("forged")); err == nil {
			t.Error("his log went on")
		}
		r, err := w.reopen(w.store)
		w.must(err)
		if _, err := r.Domain(ctx, forged); err == nil {
			t.Error("a domain sealed under the old key opens")
		}
		w.payloads = w.payloads[:2]
		w.whole(r, "forgeries")
	})
}
