package controller

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/blob"
	"github.com/tuskvault/tuskvault/internal/blob/blobtest"
	"github.com/tuskvault/tuskvault/internal/blob/mem"
	"github.com/tuskvault/tuskvault/internal/errs"
)

// attacked is a past in a store with versions, and a time before somebody put
// delete markers over two thirds of it and rubbish over the rest. After that time,
// and before the attack, the agent was revoked; late is done to the record of that.
func attacked(t *testing.T, late func(*mem.Store, string)) (p *past, store *mem.Store, at time.Time) {
	t.Helper()
	store = mem.NewVersioned(nil)
	p = newPastIn(t, store)
	at = time.Now()
	time.Sleep(time.Hour)
	p.change(func(tx *catalog.Tx) error {
		a, err := tx.Agent(p.agent)
		if err != nil {
			return err
		}
		a.State, a.Revoked, a.RevokedReason = catalog.AgentRevoked, time.Now(), "stolen"
		return tx.PutAgent(a)
	})
	revoked := time.Now()
	time.Sleep(time.Hour)
	n := 0
	must(t, store.List(t.Context(), "", "", func(info blob.Info) error {
		switch n++; {
		case info.Modified.Equal(revoked):
			late(store, info.Key)
		case n%3 == 0:
			store.Overwrite(info.Key, []byte("rubbish"))
		default:
			store.Hide(info.Key)
		}
		return nil
	}))
	if n < 10 {
		t.Fatalf("only %d objects", n)
	}
	return p, store, at
}

func (p *past) recover(store blob.Store, c Config, at time.Time) (int, error) {
	if err := beginRebuild(&c); err != nil {
		return 0, err
	}
	return recoverPast(p.t.Context(), store, at, p.unlocker, func() error { return os.WriteFile(RebuildingFile(c.StateDir), []byte(c.Store), 0o600) })
}

func untouched(*mem.Store, string) {}

func TestAStoreUnderDeleteMarkersIsRecoveredAndRebuilt(t *testing.T) {
	for name, late := range map[string]func(*mem.Store, string){
		"the record of the revocation is untouched":   untouched,
		"the record of the revocation is hidden":      (*mem.Store).Hide,
		"the record of the revocation is overwritten": func(s *mem.Store, key string) { s.Overwrite(key, []byte("rubbish")) },
	} {
		t.Run(name, func(t *testing.T) { recoverAttacked(t, late) })
	}
}

func recoverAttacked(t *testing.T, late func(*mem.Store, string)) {
	synctest.Test(t, func(t *testing.T) {
		p, store, at := attacked(t, late)
		c := p.config()
		if _, err := p.rebuild(t.Context(), store, c, RebuildOptions{}); err == nil {
			t.Fatal("the attack harmed nothing")
		}
		n, err := p.recover(store, c, at)
		must(t, err)
		if n < 10 {
			t.Errorf("%d objects recovered", n)
		}
		out, err := p.rebuild(t.Context(), store, c, RebuildOptions{})
		must(t, err)
		if len(out.Log.Faults) > 0 || len(out.Damaged) > 0 || out.Snapshots != 3 || out.Agents != 1 {
			t.Errorf("rebuilt %+v", out)
		}
		// What the log said between that time and the attack still counts.
		cat, err := catalog.Open(t.Context(), c.catalogFile(), catalog.Options{Detached: true})
		must(t, err)
		defer func() { _ = cat.Close() }()
		must(t, cat.View(t.Context(), func(tx *catalog.Tx) error {
			a, err := tx.Agent(p.agent)
			if err == nil && (a.State != catalog.AgentRevoked || a.RevokedReason != "stolen") {
				t.Errorf("the revocation is forgotten: %+v", a)
			}
			if mayErr := tx.MayDelete(); errs.KindOf(mayErr) != errs.Conflict {
				t.Errorf("deletion is not paused: %v", mayErr)
			}
			return err
		}))
		// Once more: only what has to be written over is, with the same bytes.
		if again, err := recoverPast(t.Context(), store, at, p.unlocker, func() error { return nil }); again >= n/2 || err != nil {
			t.Errorf("once more: %d of %d recovered, %v", again, n, err)
		}
	})
}

func TestARecoveryThatIsCutOffAnywhereGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("stopped")
		for n := 0; ; n += 3 {
			p, store, at := attacked(t, untouched)
			c := p.config()
			cut := &cutRecovery{Store: store, left: n, err: stop}
			_, err := p.recover(cut, c, at)
			if err == nil {
				if n < 10 {
					t.Fatalf("only %d objects were recovered", n)
				}
				return
			}
			if !errors.Is(err, stop) {
				t.Fatalf("stopped after %d: %v", n, err)
			}
			_, err = p.recover(store, c, at)
			must(t, err)
			out, err := p.rebuild(t.Context(), store, c, RebuildOptions{})
			if err != nil || out.Snapshots != 3 || len(out.Log.Faults) > 0 {
				t.Fatalf("stopped after %d: %+v, %v", n, out, err)
			}
		}
	})
}

func TestWhatKeepsNoVersionsOrDoesNotOpenIsLeftAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPast(t)
		c := p.config()
		if _, err := p.recover(p.store, c, time.Now()); errs.KindOf(err) != errs.Unsupported {
			t.Errorf("a store without versions: %v", err)
		}
		attackedPast, store, at := attacked(t, untouched)
		faulty := blobtest.NewFaulty(store)
		if _, err := p.recover(faulty, c, at); err == nil {
			t.Error("another repository's secret opened it")
		}
		if _, err := attackedPast.recover(store, c, at.Add(-48*time.Hour)); errs.KindOf(err) != errs.NotFound {
			t.Errorf("before it was made: %v", err)
		}
		if _, err := os.Stat(RebuildingFile(c.StateDir)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it says that a rebuild has begun: %v", err)
		}
	})
}

// cutRecovery ends a recovery after some objects.
type cutRecovery struct {
	*mem.Store
	left int
	err  error
}

func (c *cutRecovery) Recover(ctx context.Context, v blob.Version) error {
	if c.left--; c.left < 0 {
		return c.err
	}
	return c.Store.Recover(ctx, v)
}
