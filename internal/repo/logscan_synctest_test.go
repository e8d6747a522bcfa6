package repo_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
)

// scanned is a log of ten records with full ones at 3 and 6.
func scanned(t *testing.T) (blob.Store, *repo.Repository, *repo.Log, []repo.Witness) {
	t.Helper()
	store := mem.New()
	r, _, _ := repotest.New(t, store)
	log, _ := claim(t, r)
	witnesses := []repo.Witness{{Repository: r.ID()}}
	for n := 1; n <= 10; n++ {
		w := appendAll(t, log, fmt.Sprint(n))
		witnesses = append(witnesses, w)
		if n == 3 || n == 6 {
			must(t, log.PutFull(t.Context(), w, fmt.Appendf(nil, "full %d", n)))
		}
	}
	return store, r, log, witnesses
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scan gives the payloads and what a scan found.
func scan(t *testing.T, r *repo.Repository) ([]string, *repo.LogScan) {
	t.Helper()
	var got []string
	s, err := r.ScanLog(t.Context(), func(rec *repo.LogRecord) error { got = append(got, string(rec.Payload)); return nil })
	must(t, err)
	return got, s
}

// replace puts other bytes under a key.
func replace(t *testing.T, store blob.Store, key string, b []byte) {
	t.Helper()
	must(t, store.Delete(t.Context(), key))
	must(t, store.Create(t.Context(), key, blob.Bytes(b)))
}

func TestAScanGivesEverythingThatOpensAndNamesTheRest(t *testing.T) {
	for name, test := range map[string]struct {
		harm   func(t *testing.T, store blob.Store)
		want   string
		faults []string
		head   uint64
	}{
		"nothing":        {func(*testing.T, blob.Store) {}, "full 6,7,8,9,10", nil, 10},
		"a hole":         {func(t *testing.T, s blob.Store) { must(t, s.Delete(t.Context(), repo.LogObject(8))) }, "full 6,7,9,10", []string{repo.LogObject(8)}, 10},
		"a damaged one":  {func(t *testing.T, s blob.Store) { replace(t, s, repo.LogObject(8), []byte("rubbish")) }, "full 6,7,9,10", []string{repo.LogObject(8), "does not follow"}, 10},
		"a damaged last": {func(t *testing.T, s blob.Store) { replace(t, s, repo.LogObject(10), []byte("rubbish")) }, "full 6,7,8,9", []string{repo.LogObject(10)}, 10},
		"a damaged full": {func(t *testing.T, s blob.Store) { replace(t, s, repo.FullObject(6), []byte("rubbish")) }, "full 3,4,5,6,7,8,9,10", []string{repo.FullObject(6)}, 10},
		"no full": {func(t *testing.T, s blob.Store) {
			must(t, errors.Join(s.Delete(t.Context(), repo.FullObject(3)), s.Delete(t.Context(), repo.FullObject(6))))
		}, "1,2,3,4,5,6,7,8,9,10", nil, 10},
		"one far beyond": {func(t *testing.T, s blob.Store) {
			must(t, s.Create(t.Context(), repo.LogObject(1<<62), blob.Bytes([]byte("rubbish"))))
		}, "full 6,7,8,9,10", []string{repo.LogObject(1 << 62)}, 10},
		"a stranger": {func(t *testing.T, s blob.Store) {
			must(t, s.Create(t.Context(), "catalog/other", blob.Bytes([]byte("x"))))
		}, "full 6,7,8,9,10", []string{"catalog/other"}, 10},
		"old records too": {func(t *testing.T, s blob.Store) { must(t, s.Delete(t.Context(), repo.LogObject(1))) }, "full 6,7,8,9,10", nil, 10},
	} {
		t.Run(name, func(t *testing.T) {
			store, r, _, witnesses := scanned(t)
			test.harm(t, store)
			got, s := scan(t, r)
			if strings.Join(got, ",") != test.want || s.Head.Number != test.head {
				t.Errorf("%v up to %s", got, s.Head)
			}
			if len(s.Faults) != len(test.faults) {
				t.Errorf("faults %v", s.Faults)
			}
			for i, says := range test.faults {
				if i < len(s.Faults) && !strings.Contains(s.Faults[i].Error(), says) {
					t.Errorf("fault %v, want %q in it", s.Faults[i], says)
				}
			}
			if len(test.faults) == 0 && s.Head != witnesses[10] {
				t.Errorf("head %+v, want %+v", s.Head, witnesses[10])
			}
			// Whatever was found, a new controller can go on after it.
			epoch, err := r.ClaimEpoch(t.Context())
			must(t, err)
			log, err := repo.OpenLogAt(t.Context(), r, epoch, s.Head)
			must(t, err)
			w := appendAll(t, log, "mine")
			must(t, log.PutFull(t.Context(), w, []byte("full mine")))
			if got, s := scan(t, r); fmt.Sprint(got) != "[full mine]" || len(s.Faults) > len(test.faults) {
				t.Errorf("then %v, %v", got, s.Faults)
			}
		})
	}
}

func TestARecordOfAnEarlierEpochAfterALaterOneIsLeftOut(t *testing.T) {
	ours, theirs := mem.New(), mem.New()
	r, _, unlocker := repotest.New(t, ours)
	log, _ := claim(t, r)
	appendAll(t, log, "a")
	copyStore(t, ours, theirs)
	next, _ := claim(t, r)
	appendAll(t, next, "of epoch 2", "and more")
	// A record of epoch 1, authentic, under a number that epoch 2 has passed: only
	// somebody with the store can put it there.
	fork, err := repo.Open(t.Context(), theirs, unlocker)
	must(t, err)
	old, err := repo.OpenLog(t.Context(), fork, 1)
	must(t, err)
	appendAll(t, old, "x", "y", "late")
	raw, err := blob.ReadAll(t.Context(), theirs, repo.LogObject(4), 1<<16)
	must(t, err)
	must(t, ours.Create(t.Context(), repo.LogObject(4), blob.Bytes(raw)))
	got, s := scan(t, r)
	if !slices.Equal(got, []string{"a", "of epoch 2", "and more"}) || len(s.Faults) != 2 || s.Head.Number != 4 || s.Head.Epoch != 2 {
		t.Errorf("%v, %+v", got, s)
	}
}

func TestACheckOfAWitnessBelievesRecordsAndNotKeys(t *testing.T) {
	store, r, _, w := scanned(t)
	ahead := w[10]
	ahead.Number = 12
	forked := w[7]
	forked.Hash[0] ^= 1
	kind := func(name string, w repo.Witness, want *errs.Kind, behind bool) {
		t.Helper()
		err := r.CheckWitness(t.Context(), w)
		if _, is := errors.AsType[*repo.LogBehind](err); errs.KindOf(err) != want || is != behind {
			t.Errorf("%s: %v", name, err)
		}
	}
	kind("the head", w[10], nil, false)
	kind("another in its place", forked, errs.Conflict, false)
	kind("beyond the end", ahead, errs.Conflict, true)
	// A planted key does not hide that the store was set back.
	must(t, store.Create(t.Context(), repo.FullObject(1<<40), blob.Bytes([]byte("rubbish"))))
	must(t, store.Create(t.Context(), repo.LogObject(1<<40), blob.Bytes([]byte("rubbish"))))
	kind("beyond the end, with planted keys", ahead, errs.Conflict, true)
	must(t, store.Delete(t.Context(), repo.LogObject(2)))
	kind("gone, and a full record stands for it", w[2], nil, false)
	must(t, store.Delete(t.Context(), repo.LogObject(8)))
	must(t, store.Delete(t.Context(), repo.LogObject(1<<40)))
	kind("gone, and nothing stands for it", w[8], errs.Corrupt, false)
}

// keys lists the log.
func keys(t *testing.T, store blob.Store) (logs, fulls []uint64) {
	t.Helper()
	must(t, store.List(t.Context(), repo.CatalogPrefix, "", func(info blob.Info) error {
		n, full, err := repo.ParseCatalogObject(info.Key)
		if full {
			fulls = append(fulls, n)
		} else {
			logs = append(logs, n)
		}
		return err
	}))
	return logs, fulls
}

func TestOldRecordsGoOnlyWhenThreeFullOnesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, r, log, w := scanned(t)
		day := 24 * time.Hour
		drop := func(want int) {
			t.Helper()
			if n, err := log.DropOld(t.Context(), time.Now().Add(-30*day)); n != want || err != nil {
				t.Errorf("%d dropped, %v, want %d", n, err, want)
			}
		}
		time.Sleep(400 * day)
		drop(0) // two full records, however old
		must(t, log.PutFull(t.Context(), w[10], []byte("full 10")))
		drop(3) // records 1 to 3: the full one of 3 is the oldest that stays
		drop(0)
		last := appendAll(t, log, "11", "12")
		must(t, log.PutFull(t.Context(), last, []byte("full 12")))
		time.Sleep(29 * day)
		drop(4) // 4 to 6, and the full one of 3: of those that stay, only 6 is old
		logs, fulls := keys(t, store)
		if d := cmp.Diff([][]uint64{{7, 8, 9, 10, 11, 12}, {6, 10, 12}}, [][]uint64{logs, fulls}); d != "" {
			t.Error(d)
		}
		if got, s := scan(t, r); !slices.Equal(got, []string{"full 12"}) || len(s.Faults) > 0 {
			t.Errorf("%v, %v", got, s.Faults)
		}
		// A full record that does not open stands for nothing.
		must(t, log.PutFull(t.Context(), appendAll(t, log, "13"), []byte("full 13")))
		time.Sleep(31 * day)
		replace(t, store, repo.FullObject(10), []byte("rubbish"))
		if _, err := log.DropOld(t.Context(), time.Now().Add(30*day)); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("behind a damaged full record: %v", err)
		}
	})
}

func TestAnEpochThatIsOnlyAKeyStopsNobody(t *testing.T) {
	store, r, log, _ := scanned(t)
	must(t, log.Reigning(t.Context()))
	must(t, store.Create(t.Context(), repo.EpochObject(7), blob.Bytes([]byte("rubbish"))))
	if err := log.Reigning(t.Context()); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("a planted epoch: %v", err)
	}
	appendAll(t, log, "goes on")
	must(t, store.Delete(t.Context(), repo.EpochObject(7)))
	_, err := r.ClaimEpoch(t.Context())
	must(t, err)
	if err := log.Reigning(t.Context()); errs.KindOf(err) != errs.Conflict {
		t.Errorf("a claimed epoch: %v", err)
	}
	if _, err := log.Append(t.Context(), repo.LogAsynchronous, []byte("x")); errs.KindOf(err) != errs.Conflict {
		t.Errorf("append after that: %v", err)
	}
}
