package copies_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/copies"
	"github.com/tuskvault/tuskvault/controller/internal/erase"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/keyring"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/repo/repotest"
	"github.com/tuskvault/tuskvault/internal/seal"
)

// quiet fails unless the copy is complete and nobody was told of anything.
func (w *world) quiet(s *copies.Service) {
	w.t.Helper()
	c := w.status(s, "a")
	if n := w.events.count(event.CopyAlarm); n != 0 || c.Strays != 0 || c.LeftOut != 0 || c.Objects != 0 || c.Problem != "" || len(w.pauses()) != 0 {
		w.t.Errorf("%d alarms, pauses %v, status %+v", n, w.pauses(), c)
	}
}

type noCache struct{}

func (noCache) Forget(seal.DomainID) error { return nil }

// A copy loses everything of a domain that is erased, keys and data, and nothing
// else; until the store has let the domain go it keeps it.
func TestACopyHoldsNothingOfAnErasedDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		id, err := w.repo.CreateDomain(t.Context())
		must(t, err)
		d, err := w.repo.Domain(t.Context(), id)
		must(t, err)
		other := repotest.NewBackups(t, w.repo, d)
		other.Epoch, other.LogNumber = 2, w.backups.LogNumber
		gone := []repo.JobID{other.Backup(repotest.Table{Database: "app", Name: "t", Rows: 40, Seed: "other"}), other.Backup(repotest.Table{Database: "app", Name: "t", Rows: 60, Seed: "other"})}
		must(t, w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
			err := tx.PutInstance(catalog.Instance{ID: other.Instance, Agent: repo.NewID(), AgentName: "db2", Name: "main", Domain: id, OwnDomain: id, Incarnation: 1})
			for _, job := range gone {
				err = errors.Join(err, tx.PutSnapshot(catalog.Snapshot{ID: job, Instance: other.Instance, InstanceName: "db2/main", Domain: id, Kind: repo.KindLogical, Committed: time.Now()}))
			}
			return err
		}))
		w.backup()
		to := mem.New()
		s := w.service(map[string]blob.Store{"a": to})
		defer running(t, s)()
		time.Sleep(time.Minute)
		w.same(w.store, to)
		w.clean("before", to, 3)

		eraser := erase.New(w.repo, w.catalog, w.trail, noCache{}, zaptest.NewLogger(t))
		_, err = eraser.Erase(t.Context(), erase.Request{Instance: "db2/main", Confirm: "db2/main"}, erase.By{Actor: "operator/ann"})
		must(t, err)
		time.Sleep(time.Hour) // the keys are gone here, the data is not
		w.holdsOf(to, id, repo.PacksPrefix, true)
		w.holdsOf(to, id, repo.DomainsPrefix, false)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- eraser.Run(ctx) }() // awaited below
		time.Sleep(time.Hour)
		cancel()
		must(t, <-ended)
		for _, prefix := range []string{repo.PacksPrefix, repo.DomainsPrefix, repo.IndexesPrefix} {
			w.holdsOf(to, id, prefix, false)
		}
		w.same(w.store, to)
		for _, key := range keys(t, to, "") {
			if strings.Contains(key, id.String()) || strings.Contains(key, other.Instance.String()) {
				t.Errorf("the copy holds %s", key)
			}
		}
		w.clean("the store", w.store, 1)
		w.clean("the copy", to, 1)
		w.quiet(s)
	})
}

// holdsOf tells whether a store holds objects of a domain.
func (w *world) holdsOf(s blob.Store, id seal.DomainID, prefix string, want bool) {
	w.t.Helper()
	if got := slices.ContainsFunc(keys(w.t, s, prefix), func(key string) bool { return strings.Contains(key, id.String()) }); got != want {
		w.t.Errorf("objects of the domain in %s: %v, want %v", prefix, got, want)
	}
}

// Wherever a copy stops following a new master key, it opens, is clean, and is
// finished by the next round; in the end only the new key opens it.
func TestACopyFollowsANewMasterKeyAtEveryCut(t *testing.T) {
	w := newWorld(t)
	w.backup()
	w.backup()
	first := mem.New()
	w.follow(w.service(map[string]blob.Store{"a": first}), "a")
	ring := keyring.New(w.repo, w.log, w.catalog, w.trail, zaptest.NewLogger(t))
	c, err := ring.RotateMaster(t.Context(), nil, keyring.By{Actor: "operator/ann"})
	if err != nil || c.Master != 2 || c.Removed == 0 || c.Remaining != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	w.append()
	w.backup()
	for n, done := 0, false; !done; n++ {
		to := mem.New()
		for _, key := range keys(t, first, "") {
			must(t, to.Create(t.Context(), key, blob.Bytes(object(t, first, key))))
		}
		faulty := blobtest.NewFaulty(to)
		faulty.StopAfter(n)
		s := w.service(map[string]blob.Store{"a": faulty})
		var err error
		for again := true; again && err == nil; {
			again, err = s.Round(t.Context(), "a")
		}
		done = err == nil
		what := fmt.Sprintf("stopped after %d steps", n)
		if findings, snapshots := w.verify(to); len(findings) > 0 || snapshots < 2 {
			t.Errorf("%s: %d snapshots, %+v", what, snapshots, findings)
		}
		s = w.service(map[string]blob.Store{"a": to})
		w.follow(s, "a")
		w.same(w.store, to)
		r, err := repo.Open(t.Context(), named{to, "a"}, w.key)
		must(t, err)
		if r.Master() != 2 {
			t.Errorf("%s: it opens with master key %d", what, r.Master())
		}
		if done {
			w.clean("the copy", to, 3)
			w.quiet(s)
			if n < 8 {
				t.Errorf("only %d steps", n)
			}
		}
	}
}
