package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

func claim(t *testing.T, r *repo.Repository) (*repo.Log, uint64) {
	t.Helper()
	epoch, err := r.ClaimEpoch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log, err := repo.OpenLog(t.Context(), r, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return log, epoch
}

func appendAll(t *testing.T, log *repo.Log, payloads ...string) repo.Witness {
	t.Helper()
	var w repo.Witness
	for _, p := range payloads {
		var err error
		if w, err = log.Append(t.Context(), repo.LogAsynchronous, []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func replay(t *testing.T, r *repo.Repository) ([]string, repo.Witness, error) {
	t.Helper()
	var got []string
	w, err := r.ReplayLog(t.Context(), func(rec *repo.LogRecord) error {
		prefix := ""
		if rec.Class == repo.LogFull {
			prefix = "full:"
		}
		got = append(got, prefix+string(rec.Payload))
		return nil
	})
	return got, w, err
}

func TestTheLogReplaysWhatWasAppended(t *testing.T) {
	_, r, _ := setup(t)
	if got, w, err := replay(t, r); err != nil || len(got) != 0 || w.Number != 0 {
		t.Errorf("empty log: %v, %v, %v", got, w, err)
	}
	log, epoch := claim(t, r)
	big := bytes.Repeat([]byte("catalog "), 1<<16)
	head := appendAll(t, log, "a", "", string(big))
	if head.Number != 3 || head.Epoch != epoch {
		t.Errorf("head %v", head)
	}
	got, w, err := replay(t, r)
	if diff := cmp.Diff([]string{"a", "", string(big)}, got); diff != "" || err != nil || w != head {
		t.Errorf("%v, %v, want %v: %s", err, w, head, diff)
	}
	if opened, err := r.LogHead(t.Context()); err != nil || opened != head {
		t.Errorf("head of the store: %v, %v", opened, err)
	}
	info, err := r.Store().Stat(t.Context(), repo.LogObject(3))
	if err != nil || info.Size > int64(len(big))/10 {
		t.Errorf("record of %d bytes: not compressed", info.Size)
	}
	_, err = log.Append(t.Context(), repo.LogSynchronous, make([]byte, repo.MaxLogPayload+1))
	wantKind(t, "a payload that is too large", err, errs.Invalid)
	_, err = log.Append(t.Context(), repo.LogFull, nil)
	wantKind(t, "a full record by append", err, errs.Invalid)
}

func TestReplayBeginsAtTheNewestFullRecord(t *testing.T) {
	store, r, _ := setup(t)
	log, _ := claim(t, r)
	at := appendAll(t, log, "a", "b", "c")
	if err := log.PutFull(t.Context(), at, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	if err := log.PutFull(t.Context(), at, []byte("abc")); err != nil {
		t.Errorf("the same full record again: %v", err)
	}
	appendAll(t, log, "d")
	// Old log records may go; the chain is still held by the full record.
	for n := uint64(1); n <= 3; n++ {
		if err := store.Delete(t.Context(), repo.LogObject(n)); err != nil {
			t.Fatal(err)
		}
	}
	got, _, err := replay(t, r)
	if diff := cmp.Diff([]string{"full:abc", "d"}, got); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
	}
	if err := r.CheckWitness(t.Context(), at); err != nil {
		t.Errorf("witness of a record that was deleted as old: %v", err)
	}
	// Only the full record is left: the log goes on after it.
	if err := store.Delete(t.Context(), repo.LogObject(4)); err != nil {
		t.Fatal(err)
	}
	next, _ := claim(t, r)
	if w := appendAll(t, next, "e"); w.Number != 4 {
		t.Errorf("after the full record comes %v", w)
	}
	got, _, err = replay(t, r)
	if diff := cmp.Diff([]string{"full:abc", "e"}, got); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
	}
}

func TestAGapOrAnyDamageEndsTheReplayAndIsNamed(t *testing.T) {
	store := mem.New()
	r, _, _ := repotest.New(t, store)
	log, _ := claim(t, r)
	appendAll(t, log, "a", "b", "c")
	key := repo.LogObject(2)
	good, err := blob.ReadAll(t.Context(), store, key, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(raw []byte) {
		t.Helper()
		if err := store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if raw != nil {
			if err := store.Create(t.Context(), key, blob.Bytes(raw)); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(what string) {
		t.Helper()
		got, w, err := replay(t, r)
		if err == nil || len(got) != 1 || w.Number != 1 {
			t.Fatalf("%s: replayed %v to %v, %v", what, got, w, err)
		}
		wantWords(t, err, key)
	}
	replace(nil)
	check("a gap")
	replace(good)
	if _, _, err := replay(t, r); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		replace(bad)
		check(fmt.Sprintf("byte %d", i))
	}
	replace(good[:len(good)/2])
	check("torn")
	first, err := blob.ReadAll(t.Context(), store, repo.LogObject(1), 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	replace(first)
	check("the record before in its place")
}

func TestARecordOfAForkDoesNotFollow(t *testing.T) {
	// A record that is whole and authentic, but of a chain that forked before it.
	ours, theirs := mem.New(), mem.New()
	r, _, unlocker := repotest.New(t, ours)
	log, _ := claim(t, r)
	appendAll(t, log, "a")
	copyStore(t, ours, theirs)
	appendAll(t, log, "b", "c")
	fork, err := repo.Open(t.Context(), theirs, unlocker)
	if err != nil {
		t.Fatal(err)
	}
	other, err := repo.OpenLog(t.Context(), fork, 1)
	if err != nil {
		t.Fatal(err)
	}
	forked := appendAll(t, other, "B", "C")
	raw, err := blob.ReadAll(t.Context(), theirs, repo.LogObject(3), 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	if err := ours.Delete(t.Context(), repo.LogObject(3)); err != nil {
		t.Fatal(err)
	}
	if err := ours.Create(t.Context(), repo.LogObject(3), blob.Bytes(raw)); err != nil {
		t.Fatal(err)
	}
	got, _, err := replay(t, r)
	wantKind(t, "replay", err, errs.Corrupt)
	wantWords(t, err, repo.LogObject(3), "does not follow")
	if len(got) != 2 {
		t.Errorf("replayed %v", got)
	}
	forked.Hash[0] ^= 1
	wantKind(t, "witness of another chain", r.CheckWitness(t.Context(), forked), errs.Conflict)
}

func copyStore(t *testing.T, from, to blob.Store) {
	t.Helper()
	err := from.List(t.Context(), "", "", func(info blob.Info) error {
		b, err := blob.ReadAll(t.Context(), from, info.Key, info.Size)
		return errors.Join(err, to.Create(t.Context(), info.Key, blob.Bytes(b)))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAWitnessAheadOfTheStoreTellsARollback(t *testing.T) {
	store := mem.New()
	r, _, _ := repotest.New(t, store)
	log, _ := claim(t, r)
	early := appendAll(t, log, "a")
	late := appendAll(t, log, "b", "c")
	for _, w := range []repo.Witness{{Repository: r.ID()}, early, late} {
		if err := r.CheckWitness(t.Context(), w); err != nil {
			t.Error(err)
		}
	}
	if err := store.Delete(t.Context(), repo.LogObject(3)); err != nil {
		t.Fatal(err)
	}
	err := r.CheckWitness(t.Context(), late)
	wantKind(t, "witness ahead", err, errs.Conflict)
	wantWords(t, err, "rolled back")
	_, err = r.ReplayLogAfter(t.Context(), late, func(*repo.LogRecord) error { return nil })
	wantKind(t, "replay after it", err, errs.Conflict)
	late.Repository = repo.NewID()
	wantKind(t, "witness of another repository", r.CheckWitness(t.Context(), late), errs.Invalid)
}

func TestOfTwinsOnOneEpochExactlyOneWritesARecord(t *testing.T) {
	// A resumed copy of a virtual machine: both believe to be the controller.
	_, r, _ := setup(t)
	first, epoch := claim(t, r)
	logs := []*repo.Log{first}
	for range 7 {
		log, err := repo.OpenLog(t.Context(), r, epoch)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, log)
	}
	failures := make([]error, len(logs))
	var wg sync.WaitGroup
	for i, log := range logs {
		wg.Go(func() {
			_, failures[i] = log.Append(t.Context(), repo.LogSynchronous, fmt.Appendf(nil, "twin %d", i))
		})
	}
	wg.Wait()
	won := 0
	for i, err := range failures {
		if err == nil {
			won++
			continue
		}
		wantKind(t, "twin", err, errs.Conflict)
		c, ok := errors.AsType[*repo.LogConflict](err)
		if !ok || !c.TakenOver() || c.Epoch != epoch || c.Number != 1 {
			t.Errorf("twin %d: %v", i, err)
		}
		if _, err := logs[i].Append(t.Context(), repo.LogSynchronous, []byte("again")); !errors.Is(err, errs.Conflict) {
			t.Errorf("twin %d goes on: %v", i, err)
		}
	}
	if won != 1 {
		t.Errorf("%d twins won", won)
	}
}

func TestAnOlderControllerStopsAtTheFirstRecordOfANewerOne(t *testing.T) {
	_, r, _ := setup(t)
	old, oldEpoch := claim(t, r)
	appendAll(t, old, "a")
	now, newEpoch := claim(t, r)
	// The old one is faster once more: the new one must take that record in.
	appendAll(t, old, "late")
	_, err := now.Append(t.Context(), repo.LogSynchronous, []byte("take over"))
	c, ok := errors.AsType[*repo.LogConflict](err)
	if !ok || c.TakenOver() || c.Epoch != oldEpoch {
		t.Fatalf("got %v", err)
	}
	if now, err = repo.OpenLog(t.Context(), r, newEpoch); err != nil {
		t.Fatal(err)
	}
	appendAll(t, now, "take over")
	_, err = old.Append(t.Context(), repo.LogSynchronous, []byte("too late"))
	wantKind(t, "the old one", err, errs.Conflict)
	wantWords(t, err, fmt.Sprintf("another controller (epoch %d) has taken over", newEpoch))
	_, err = repo.OpenLog(t.Context(), r, oldEpoch)
	wantKind(t, "the old one opens again", err, errs.Conflict)
	_, err = repo.OpenLog(t.Context(), r, newEpoch+1)
	wantKind(t, "an epoch that nobody claimed", err, errs.Invalid)
	got, _, err := replay(t, r)
	if diff := cmp.Diff([]string{"a", "late", "take over"}, got); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
	}
}

func TestAppendSettlesWhatIsInDoubt(t *testing.T) {
	at := func(op blob.Op, e blobtest.Effect) blobtest.Fault {
		return blobtest.Fault{Op: op, Prefix: repo.CatalogPrefix, Nth: 1, Effect: e}
	}
	for what, c := range map[string]struct {
		faults []blobtest.Fault
		first  *errs.Kind // of the first Append; nil when it succeeds
	}{
		"the answer is lost":               {[]blobtest.Fault{at(blob.OpCreate, blobtest.Ambiguous)}, nil},
		"the put never arrived":            {[]blobtest.Fault{at(blob.OpCreate, blobtest.Fail)}, errs.Unavailable},
		"the store lies":                   {[]blobtest.Fault{at(blob.OpCreate, blobtest.Vanish)}, errs.Unavailable},
		"answer lost, reading back fails":  {[]blobtest.Fault{at(blob.OpCreate, blobtest.Ambiguous), at(blob.OpOpen, blobtest.Fail)}, errs.Unavailable},
		"answer lost, read back is spoilt": {[]blobtest.Fault{at(blob.OpCreate, blobtest.Ambiguous), at(blob.OpOpen, blobtest.Flip)}, errs.Corrupt},
	} {
		t.Run(what, func(t *testing.T) {
			faulty, r, _ := setup(t)
			log, _ := claim(t, r)
			faulty.Plan(c.faults...)
			_, err := log.Append(t.Context(), repo.LogSynchronous, []byte("x"))
			faulty.Verify(t)
			if c.first == nil && err != nil || c.first != nil && !errors.Is(err, c.first) {
				t.Fatalf("first: %v", err)
			}
			if err != nil {
				_, err := log.Append(t.Context(), repo.LogSynchronous, []byte("other"))
				wantKind(t, "another payload while one is undecided", err, errs.Invalid)
				appendAllAs(t, log, repo.LogSynchronous, "x")
			}
			appendAll(t, log, "y")
			got, _, err := replay(t, r)
			if diff := cmp.Diff([]string{"x", "y"}, got); diff != "" || err != nil {
				t.Errorf("%v: %s", err, diff)
			}
		})
	}
}

func appendAllAs(t *testing.T, log *repo.Log, class repo.LogClass, payload string) {
	t.Helper()
	if _, err := log.Append(t.Context(), class, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func TestAControllerThatDiedBeforeNotingARecordPutsItAgain(t *testing.T) {
	_, r, _ := setup(t)
	log, epoch := claim(t, r)
	noted := appendAll(t, log, "a")
	appendAll(t, log, "b") // and the controller dies before it has noted this
	again, err := repo.OpenLogAt(t.Context(), r, epoch, noted)
	if err != nil {
		t.Fatal(err)
	}
	if w := appendAll(t, again, "b", "c"); w.Number != 3 {
		t.Errorf("at %v", w)
	}
	got, _, err := replay(t, r)
	if diff := cmp.Diff([]string{"a", "b", "c"}, got); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
	}
}

func TestOfManyClaimsOfAnEpochEachNumberHasOneOwner(t *testing.T) {
	_, r, _ := setup(t)
	const claimants = 16
	epochs := make([]uint64, claimants)
	var wg sync.WaitGroup
	for i := range claimants {
		wg.Go(func() {
			e, err := r.ClaimEpoch(t.Context())
			if err != nil && !errors.Is(err, errs.Conflict) {
				t.Error(err)
			}
			epochs[i] = e
		})
	}
	wg.Wait()
	seen := map[uint64]bool{}
	for _, e := range epochs {
		if e != 0 && seen[e] {
			t.Errorf("epoch %d has two owners", e)
		}
		seen[e] = true
	}
	latest, err := r.LatestEpoch(t.Context())
	if err != nil || !seen[latest] {
		t.Errorf("latest %d, %v", latest, err)
	}
	if c, err := r.Epoch(t.Context(), latest); err != nil || c.Epoch != latest || c.Claim == "" {
		t.Errorf("claim %+v, %v", c, err)
	}
}

func TestRandomFaultsNeverBreakTheLog(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 30 {
		faulty, r, _ := setup(t)
		log, epoch := claim(t, r)
		for n := 1; n < 40; n++ {
			if rng.IntN(3) == 0 {
				effects := []blobtest.Effect{blobtest.Fail, blobtest.Ambiguous, blobtest.Vanish}
				faulty.Plan(blobtest.Fault{Op: blob.OpCreate, Prefix: repo.CatalogPrefix, Nth: n, Effect: effects[rng.IntN(3)]})
			}
		}
		var want []string
		noted := repo.Witness{Repository: r.ID()}
		for i := 0; len(want) < 20; i++ {
			if i > 200 {
				t.Fatal("no end")
			}
			payload := fmt.Sprintf("p%d", len(want))
			w, err := log.Append(t.Context(), repo.LogSynchronous, []byte(payload))
			switch {
			case err == nil:
				want, noted = append(want, payload), w
			case !errors.Is(err, errs.Unavailable):
				t.Fatal(err)
			case rng.IntN(4) == 0: // the controller dies and starts again
				if log, err = repo.OpenLogAt(t.Context(), r, epoch, noted); err != nil {
					t.Fatal(err)
				}
			}
		}
		got, w, err := replay(t, r)
		if diff := cmp.Diff(want, got); diff != "" || err != nil || w != noted {
			t.Fatalf("%v, at %v, want %v: %s", err, w, noted, diff)
		}
	}
}
