package catalog_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
)

// local are the buckets that a rebuild makes anew or does without. Every other
// bucket must come back, and TestWhatWasExportedComesBack wants a record in it.
var local = map[string]bool{"meta": true, "joblogs": true, "packs": true, "packs.open": true, "outbox": true, "shipping": true}

// contents gives every bucket that must come back, by name and key.
func contents(t *testing.T, c *catalog.Catalog) map[string]map[string][]byte {
	t.Helper()
	out := map[string]map[string][]byte{}
	view(t, c, func(tx *catalog.Tx) error {
		for _, name := range catalog.BucketNames() {
			if local[name] {
				continue
			}
			out[name] = map[string][]byte{}
			if err := tx.Bolt().Bucket([]byte(name)).ForEach(func(k, v []byte) error {
				out[name][string(k)] = bytes.Clone(v)
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

// everything writes at least one record of every type, and changes and deletes some.
func everything(t *testing.T, c *catalog.Catalog, n int) {
	t.Helper()
	agent, token, instance := filled[catalog.Agent](t), filled[catalog.Token](t), filled[catalog.Instance](t)
	token.ID = catalog.TokenID(fmt.Sprintf("%012x", n))
	job, restore, drilling := filled[catalog.Job](t), filled[catalog.Job](t), filled[catalog.Job](t)
	job.Restore, job.Drill, restore.Backup, restore.Drill, drilling.Backup, drilling.Restore = nil, nil, nil, nil, nil, nil
	attempt, snapshot, drill, pause, prune := filled[catalog.Attempt](t), filled[catalog.Snapshot](t), filled[catalog.Drill](t), filled[catalog.Pause](t), filled[catalog.Prune](t)
	for range 2 {
		update(t, c, func(tx *catalog.Tx) error {
			cluster, operator := filled[catalog.Cluster](t), filled[catalog.Operator](t)
			for _, put := range []func() error{
				func() error { return tx.PutAgent(agent) },
				func() error { return tx.PutInventory(agent.ID, filled[catalog.Inventory](t)) },
				func() error { return tx.PutToken(token) },
				func() error { return tx.PutInstance(instance) },
				func() error { return tx.PutCluster(cluster) },
				func() error { return tx.PutCluster(catalog.Cluster{Name: fmt.Sprint("gone", n)}) },
				func() error { return tx.DeleteCluster(fmt.Sprint("gone", n)) },
				func() error { return tx.PutOperator(operator) },
				func() error { return tx.PutJob(job) },
				func() error { return tx.PutJob(restore) },
				func() error { return tx.PutJob(drilling) },
				func() error { return tx.PutAttempt(attempt) },
				func() error { return tx.AppendLog(job.ID, catalog.LogLine{Message: "line"}) },
				func() error { return tx.PutSnapshot(snapshot) },
				func() error { _, err := tx.AppendAudit(filled[catalog.AuditRecord](t)); return err },
				func() error { return tx.PutDrill(drill, filled[catalog.DrillReport](t)) },
				func() error { _, err := tx.Pause(pause); return err },
				func() error { return tx.PutKey(filled[catalog.Key](t)) },
				func() error { return tx.PutPruneNeed(snapshot.Domain, filled[catalog.PruneNeed](t)) },
				func() error { return tx.PutPrune(prune) },
				func() error { return tx.Condemn(prune.ID, []catalog.PackID{{1}, {2}}) },
				func() error { return tx.PutClock(filled[catalog.Clock](t)) },
				func() error { return tx.PutErasure(filled[catalog.Erasure](t)) },
				func() error { r := filled[catalog.Distrust](t); r.Until = r.Since; return tx.PutDistrust(r) },
				func() error { return tx.PutDistrustedPack(filled[catalog.DistrustedPack](t)) },
				func() error { return tx.PermitDelete(time.Now(), fmt.Sprint("packs/", n, "/"), fmt.Sprint("keys/", n)) },
				func() error { return tx.DropPermits(fmt.Sprint("keys/", n)) },
			} {
				if err := put(); err != nil {
					return err
				}
			}
			return nil
		})
		// The same job moves from state to state, the same snapshot is corrected.
		job.State, snapshot.Committed = catalog.JobSucceeded, snapshot.Committed.Add(time.Hour)
	}
}

// ship takes everything out of the outbox, with a full record at shipment number
// fullAt, and gives the payloads from the last full one on, or all.
func ship(t *testing.T, c *catalog.Catalog, all [][]byte, fullAt int) [][]byte {
	t.Helper()
	for n := 0; ; n++ {
		s, ok, err := c.NextShipment(t.Context(), n == fullAt)
		if err != nil || s.FullErr != nil {
			t.Fatal(err, s.FullErr)
		}
		if !ok {
			return all
		}
		if err := c.Shipped(t.Context(), s, catalog.Witness{Number: c.Head().Number + 1}); err != nil {
			t.Fatal(err)
		}
		if all = append(all, s.Payload); s.Full != nil {
			all = [][]byte{s.Full}
		}
	}
}

func imported(t *testing.T, payloads [][]byte) *catalog.Catalog {
	t.Helper()
	i, err := catalog.NewImport(filepath.Join(t.TempDir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Abandon() })
	for _, p := range payloads {
		if err := i.Apply(p); err != nil {
			t.Fatal(err)
		}
	}
	c, err := i.Finish(t.Context(), catalog.Meta{Epoch: 9, Name: "again"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestWhatWasExportedComesBack(t *testing.T) {
	for _, full := range []int{-1, 0} {
		c := create(t)
		var payloads [][]byte
		for n := range 3 {
			everything(t, c, n)
			at := -1
			if n == 1 {
				at = full
			}
			payloads = ship(t, c, payloads, at)
		}
		want := contents(t, c)
		for name, records := range want {
			if len(records) == 0 {
				t.Errorf("bucket %s is empty: this test must put a record of every type that is exported", name)
			}
		}
		again := imported(t, append(payloads, catalog.TakeOver()))
		if d := cmp.Diff(want, contents(t, again)); d != "" {
			t.Errorf("full record %v: %s", full == 0, d)
		}
		view(t, again, func(tx *catalog.Tx) error {
			m, err := tx.Meta()
			if err != nil || m.Epoch != 9 || m.Name != "again" {
				t.Errorf("meta %+v, %v", m, err)
			}
			totals, err := tx.Totals()
			if err != nil || totals.Snapshots != 3 {
				t.Errorf("totals %+v, %v", totals, err)
			}
			return err
		})
	}
}

func TestAFullRecordIsExactlyWhatTheLogSaysUpToIt(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	c := create(t)
	agents := make([]repo.ID, 20)
	for i := range agents {
		agents[i] = repo.NewID()
	}
	var log [][]byte
	for range 25 {
		for range rng.IntN(4) {
			n := rng.IntN(len(agents))
			update(t, c, func(tx *catalog.Tx) error {
				return tx.PutAgent(catalog.Agent{ID: agents[n], Name: fmt.Sprintf("db%d", n), Address: fmt.Sprint(rng.Uint64())})
			})
		}
		s, ok, err := c.NextShipment(t.Context(), rng.IntN(3) == 0)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			continue
		}
		log = append(log, s.Payload)
		// What comes after the shipment was prepared must not be in the full record.
		update(t, c, func(tx *catalog.Tx) error {
			return tx.PutAgent(catalog.Agent{ID: agents[0], Name: "db0", Address: fmt.Sprint(rng.Uint64())})
		})
		if err := c.Shipped(t.Context(), s, catalog.Witness{Number: uint64(len(log))}); err != nil {
			t.Fatal(err)
		}
		if s.Full != nil {
			if d := cmp.Diff(contents(t, imported(t, log)), contents(t, imported(t, [][]byte{s.Full}))); d != "" {
				t.Fatalf("after %d records: %s", len(log), d)
			}
		}
	}
}

func TestAnImportRefusesWhatItDoesNotKnow(t *testing.T) {
	payload := func(schema uint32, changes ...*catalogpb.Change) []byte {
		b, err := proto.Marshal(&catalogpb.LogRecord{Schema: schema, Batches: []*catalogpb.Batch{{Sequence: 1, Changes: changes}}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, test := range map[string]struct {
		payload []byte
		kind    *errs.Kind
		says    string
	}{
		"newer schema":  {payload(catalog.SchemaVersion + 1), errs.Unsupported, "newer version"},
		"no schema":     {payload(0), errs.Unsupported, ""},
		"no bucket":     {payload(catalog.SchemaVersion, &catalogpb.Change{Bucket: "other", Key: []byte("k")}), errs.Corrupt, "other"},
		"local bucket":  {payload(catalog.SchemaVersion, &catalogpb.Change{Bucket: "meta", Key: []byte("meta")}), errs.Corrupt, "meta"},
		"index":         {payload(catalog.SchemaVersion, &catalogpb.Change{Bucket: "agents.name", Key: []byte("k")}), errs.Corrupt, "agents.name"},
		"no key":        {payload(catalog.SchemaVersion, &catalogpb.Change{Bucket: "agents"}), errs.Corrupt, "agents"},
		"cut off":       {payload(catalog.SchemaVersion, &catalogpb.Change{Bucket: "agents", Key: []byte("k")})[:5], errs.Corrupt, ""},
		"unknown field": {append(payload(catalog.SchemaVersion), 0x18, 1), errs.Unsupported, "field 3"},
	} {
		t.Run(name, func(t *testing.T) {
			i, err := catalog.NewImport(filepath.Join(t.TempDir(), "catalog.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = i.Abandon() }()
			wants(t, i.Apply(test.payload), test.kind, test.says)
		})
	}
}

func TestDeletionIsPausedUntilAPersonHasDecided(t *testing.T) {
	c := create(t)
	may := func() (err error) {
		view(t, c, func(tx *catalog.Tx) error { err = tx.MayDelete(); return nil })
		return err
	}
	seen := func(epoch, number uint64) catalog.Pause {
		return catalog.Pause{Kind: catalog.PauseRolledBack, Reason: "rolled back", Since: time.Now(), Witness: catalog.Witness{Epoch: epoch, Number: number, Hash: [32]byte{byte(number)}}}
	}
	pause := func(p catalog.Pause, news bool) {
		t.Helper()
		update(t, c, func(tx *catalog.Tx) error {
			if n, err := tx.Pause(p); n != news || err != nil {
				t.Errorf("pause %+v: news %v, %v", p, n, err)
			}
			return nil
		})
	}
	if err := may(); err != nil {
		t.Error(err)
	}
	pause(catalog.Pause{Kind: catalog.PauseRebuild, Reason: "rebuilt", Since: time.Now()}, true)
	pause(seen(2, 500), true)
	pause(seen(2, 400), false)
	wants(t, may(), errs.Conflict, "rebuilt; rolled back")
	update(t, c, func(tx *catalog.Tx) error {
		decided, err := tx.ResumeDeletion("operator/admin")
		if len(decided) != 2 {
			t.Errorf("decided about %+v", decided)
		}
		return err
	})
	if err := may(); err != nil {
		t.Error(err)
	}
	// Another agent that had seen the same, or less, is no news any more; more is.
	pause(seen(2, 500), false)
	pause(seen(2, 30), false)
	if err := may(); err != nil {
		t.Error(err)
	}
	other := seen(2, 499)
	other.Subject = "db2"
	pause(other, true) // somebody else's word
	update(t, c, func(tx *catalog.Tx) error { _, err := tx.ResumeDeletion("operator/admin"); return err })
	pause(seen(2, 501), true)
	wants(t, may(), errs.Conflict, "rolled back")
	if err := may(); strings.Contains(fmt.Sprint(err), "rebuilt") {
		t.Error(err)
	}
}
