package catalog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func create(t *testing.T) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Create(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), catalog.Meta{Epoch: 2, Name: "test"}, catalog.Options{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func update(t *testing.T, c *catalog.Catalog, fn func(*catalog.Tx) error) {
	t.Helper()
	if err := c.Update(t.Context(), catalog.Async, fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, c *catalog.Catalog, fn func(*catalog.Tx) error) {
	t.Helper()
	if err := c.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// wants checks the kind of an error and that it says something.
func wants(t *testing.T, err error, kind *errs.Kind, says string) {
	t.Helper()
	if errs.KindOf(err) != kind || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("error %v, want kind %q saying %q", err, kind, says)
	}
}

// fill sets every field that reflection reaches to something that is not zero,
// so that a field which a conversion forgets is found.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1_700_000_000+r.Int64N(1e8), r.Int64N(1e9)).UTC()))
		return
	case reflect.TypeFor[time.Duration]():
		v.SetInt(1 + r.Int64N(1e15))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%d", r.IntN(1e6)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(1 + r.Int64N(3))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(1 + r.Uint64N(200))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(catalog.Labels{"env": "prod"}))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	default:
		panic("fill: " + v.Kind().String())
	}
}

func filled[R any](t *testing.T) R {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var rec R
	fill(rand.New(rand.NewPCG(seed, 0)), reflect.ValueOf(&rec).Elem())
	return rec
}

func TestEveryFieldOfEveryRecordComesBack(t *testing.T) {
	c := create(t)
	agent, inv, token, instance := filled[catalog.Agent](t), filled[catalog.Inventory](t), filled[catalog.Token](t), filled[catalog.Instance](t)
	token.ID = "0123456789ab"
	cluster, operator, meta := filled[catalog.Cluster](t), filled[catalog.Operator](t), filled[catalog.Meta](t)
	backup, restore, drill := filled[catalog.Job](t), filled[catalog.Job](t), filled[catalog.Job](t)
	backup.Kind, backup.Restore, backup.Drill = catalog.JobBackup, nil, nil
	restore.Kind, restore.Backup, restore.Drill, restore.ID = catalog.JobRestore, nil, nil, repo.NewID()
	drill.Kind, drill.Backup, drill.Restore = catalog.JobDrill, nil, nil
	held, signed := filled[catalog.Drill](t), filled[catalog.DrillReport](t)
	attempt, snapshot, pack := filled[catalog.Attempt](t), filled[catalog.Snapshot](t), filled[catalog.Pack](t)
	line := filled[catalog.LogLine](t)
	update(t, c, func(tx *catalog.Tx) error {
		return errors.Join(tx.PutMeta(meta), tx.PutAgent(agent), tx.PutInventory(agent.ID, inv), tx.PutToken(token), tx.PutInstance(instance),
			tx.PutCluster(cluster), tx.PutOperator(operator), tx.PutJob(backup), tx.PutJob(restore), tx.PutJob(drill), tx.PutDrill(held, signed), tx.PutAttempt(attempt),
			tx.PutSnapshot(snapshot), tx.PutPack(pack), tx.AppendLog(backup.ID, line))
	})
	view(t, c, func(tx *catalog.Tx) error {
		same := func(what string, want, got any, err error) {
			t.Helper()
			if err != nil {
				t.Errorf("%s: %v", what, err)
			} else if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s: %s", what, d)
			}
		}
		gotDrill, err := tx.Job(drill.ID)
		same("drill job", drill, gotDrill, err)
		drills, err := tx.Drills(held.Snapshot)
		same("drill", []catalog.Drill{held}, drills, err)
		gotReport, err := tx.DrillReport(held.Snapshot, held.Job)
		same("drill report", signed, gotReport, err)
		gotMeta, err := tx.Meta()
		same("meta", meta, gotMeta, err)
		gotAgent, err := tx.Agent(agent.ID)
		same("agent", agent, gotAgent, err)
		gotInv, err := tx.Inventory(agent.ID)
		same("inventory", inv, gotInv, err)
		gotToken, err := tx.Token(token.ID)
		same("token", token, gotToken, err)
		gotInstance, err := tx.Instance(instance.ID)
		same("instance", instance, gotInstance, err)
		gotCluster, err := tx.Cluster(cluster.Name)
		same("cluster", cluster, gotCluster, err)
		gotOperator, err := tx.Operator(operator.Name)
		same("operator", operator, gotOperator, err)
		gotJob, err := tx.Job(backup.ID)
		same("backup", backup, gotJob, err)
		gotJob, err = tx.Job(restore.ID)
		same("restore", restore, gotJob, err)
		gotAttempt, err := tx.Attempt(attempt.Job, attempt.Fence)
		same("attempt", attempt, gotAttempt, err)
		gotSnapshot, err := tx.Snapshot(snapshot.ID)
		same("snapshot", snapshot, gotSnapshot, err)
		gotPack, err := tx.Pack(pack.Job, pack.ID)
		same("pack", pack, gotPack, err)
		lines, _, err := tx.Logs(backup.ID, catalog.Page{})
		line.Number = 1
		same("log", []catalog.LogLine{line}, lines, err)
		totals, err := tx.Totals()
		same("totals", catalog.Totals{Snapshots: 1, PlainBytes: snapshot.PlainBytes, StoredBytes: snapshot.StoredBytes}, totals, err)
		return nil
	})
}

func TestAPrefixFindsOneAndNamesSeveral(t *testing.T) {
	c := create(t)
	own := repo.NewID()
	id := func(b ...byte) (id repo.ID) { copy(id[:], b); id[15] = 1; return id }
	update(t, c, func(tx *catalog.Tx) error {
		for i, x := range []repo.ID{id(0xab, 0xcd), id(0xab, 0xef), id(0x0c)} {
			if err := tx.PutSnapshot(catalog.Snapshot{ID: x, Instance: own, Committed: time.Unix(int64(100+i), 0)}); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, c, func(tx *catalog.Tx) error {
		for _, ref := range []string{"0", "0c", "abc", "ABCD", id(0xab, 0xcd).String()} {
			if _, err := tx.FindSnapshot(ref); err != nil {
				t.Errorf("%q: %v", ref, err)
			}
		}
		_, err := tx.FindSnapshot("ab")
		wants(t, err, errs.Conflict, "snapshot ab: matches 2: abcd00000000, abef00000000: ")
		for _, ref := range []string{"", "ac", "zz", "latest", strings.Repeat("a", 33)} {
			_, err := tx.FindSnapshot(ref)
			wants(t, err, errs.NotFound, "snapshot")
		}
		return nil
	})
}

func TestManyMatchesAreCountedAndNotListed(t *testing.T) {
	c := create(t)
	update(t, c, func(tx *catalog.Tx) error {
		for i := range 20 {
			if err := tx.PutAgent(catalog.Agent{ID: repo.ID{0xaa, byte(i)}, Name: fmt.Sprintf("db%d", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, c, func(tx *catalog.Tx) error {
		_, err := tx.FindAgent("aa")
		wants(t, err, errs.Conflict, "matches more than 5: ")
		if len(err.Error()) > 200 {
			t.Errorf("%d bytes: %v", len(err.Error()), err)
		}
		if a, err := tx.FindAgent("db7"); err != nil || a.Name != "db7" {
			t.Errorf("by name: %v, %v", a.Name, err)
		}
		return nil
	})
}

func TestInstancesAreFoundByWhatIsUnique(t *testing.T) {
	c := create(t)
	update(t, c, func(tx *catalog.Tx) error {
		put := func(agent, name string) error {
			return tx.PutInstance(catalog.Instance{ID: repo.NewID(), Agent: repo.NewID(), AgentName: agent, Name: name})
		}
		return errors.Join(put("db1", "main"), put("db2", "main"), put("db2", "orders"))
	})
	view(t, c, func(tx *catalog.Tx) error {
		for ref, want := range map[string]string{"db1/main": "db1/main", "orders": "db2/orders"} {
			i, err := tx.FindInstance(ref)
			if err != nil || i.FullName() != want {
				t.Errorf("%q: %s, %v", ref, i.FullName(), err)
			}
			if again, err := tx.FindInstance(i.ID.Short()); err != nil || again.ID != i.ID {
				t.Errorf("%q by prefix: %v", ref, err)
			}
		}
		_, err := tx.FindInstance("main")
		wants(t, err, errs.Conflict, "instance main: matches 2: db1/main, db2/main: ")
		_, err = tx.FindInstance("db9/main")
		wants(t, err, errs.NotFound, "db9/main")
		of, err := tx.InstancesOf("db2")
		if err != nil || len(of) != 2 {
			t.Errorf("instances of db2: %v, %v", of, err)
		}
		return nil
	})
}

func TestNamesAndIdentitiesNeverChange(t *testing.T) {
	c := create(t)
	a := catalog.Agent{ID: repo.NewID(), Name: "db1", State: catalog.AgentActive}
	i := catalog.Instance{ID: repo.NewID(), Agent: a.ID, AgentName: "db1", Name: "main"}
	j := catalog.Job{ID: repo.NewID(), Kind: catalog.JobBackup, State: catalog.JobQueued, Instance: i.ID, Backup: &catalog.BackupSpec{}}
	update(t, c, func(tx *catalog.Tx) error { return errors.Join(tx.PutAgent(a), tx.PutInstance(i), tx.PutJob(j)) })
	try := func(kind *errs.Kind, fn func(tx *catalog.Tx) error) {
		t.Helper()
		wants(t, c.Update(t.Context(), catalog.Async, fn), kind, "")
	}
	try(errs.Exists, func(tx *catalog.Tx) error { return tx.PutAgent(catalog.Agent{ID: repo.NewID(), Name: "db1"}) })
	try(errs.Invalid, func(tx *catalog.Tx) error { return tx.PutAgent(catalog.Agent{ID: a.ID, Name: "db2"}) })
	try(errs.Exists, func(tx *catalog.Tx) error {
		return tx.PutInstance(catalog.Instance{ID: repo.NewID(), Agent: a.ID, AgentName: "db1", Name: "main"})
	})
	try(errs.Invalid, func(tx *catalog.Tx) error {
		return tx.PutInstance(catalog.Instance{ID: i.ID, Agent: repo.NewID(), AgentName: "db1", Name: "main"})
	})
	try(errs.Invalid, func(tx *catalog.Tx) error { x := j; x.Instance = repo.NewID(); return tx.PutJob(x) })
	try(errs.Invalid, func(tx *catalog.Tx) error { x := j; x.Restore = &catalog.RestoreSpec{}; return tx.PutJob(x) })
}

func TestAFailedTransactionChangesNothing(t *testing.T) {
	c := create(t)
	wants(t, c.Update(t.Context(), catalog.Async, func(tx *catalog.Tx) error {
		return errors.Join(tx.PutAgent(catalog.Agent{ID: repo.NewID(), Name: "db1"}), errs.Denied)
	}), errs.Denied, "")
	view(t, c, func(tx *catalog.Tx) error {
		_, err := tx.AgentByName("db1")
		wants(t, err, errs.NotFound, `agent "db1"`)
		return nil
	})
	if _, ok, err := c.NextShipment(t.Context(), false); ok || err != nil {
		t.Errorf("something to ship: %v, %v", ok, err)
	}
}

// collect walks over a list page by page.
func collect[R any](t *testing.T, c *catalog.Catalog, size int, list func(*catalog.Tx, catalog.Page) ([]R, string, error)) (all []R) {
	t.Helper()
	page := catalog.Page{Size: size}
	for {
		var rows []R
		view(t, c, func(tx *catalog.Tx) (err error) { rows, page.Token, err = list(tx, page); return err })
		if len(rows) > size {
			t.Fatalf("%d rows on a page of %d", len(rows), size)
		}
		if all = append(all, rows...); page.Token == "" {
			return all
		}
	}
}

func TestJobsArePagedNewestFirstByInstanceAndState(t *testing.T) {
	c := create(t)
	instances := []repo.InstanceID{repo.NewID(), repo.NewID()}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var all []catalog.Job
	update(t, c, func(tx *catalog.Tx) error {
		for i := range 57 {
			j := catalog.Job{ID: repo.NewID(), Kind: catalog.JobBackup, Instance: instances[i%2], State: catalog.JobStates()[i%9],
				Created: start.Add(time.Duration(i/3) * time.Second), Backup: &catalog.BackupSpec{}}
			all = append(all, j)
			if err := tx.PutJob(j); err != nil {
				return err
			}
		}
		return nil
	})
	// A job that moves must leave its old place in the index of states.
	update(t, c, func(tx *catalog.Tx) error { all[0].State = catalog.JobFailed; return tx.PutJob(all[0]) })
	for _, filter := range []catalog.JobFilter{{}, {Instance: instances[1]}, {States: []catalog.JobState{catalog.JobFailed}},
		{Instance: instances[0], States: []catalog.JobState{catalog.JobFailed, catalog.JobQueued}}} {
		want := map[repo.JobID]bool{}
		for _, j := range all {
			if (filter.Instance.IsZero() || filter.Instance == j.Instance) && (len(filter.States) == 0 || slices.Contains(filter.States, j.State)) {
				want[j.ID] = true
			}
		}
		for _, size := range []int{1, 4, 1000} {
			got := collect(t, c, size, func(tx *catalog.Tx, p catalog.Page) ([]catalog.Job, string, error) { return tx.Jobs(p, filter) })
			if len(got) != len(want) {
				t.Fatalf("%+v, pages of %d: %d jobs, want %d", filter, size, len(got), len(want))
			}
			for i, j := range got {
				if !want[j.ID] || i > 0 && j.Created.After(got[i-1].Created) {
					t.Fatalf("%+v, pages of %d: job %d is %+v", filter, size, i, j)
				}
			}
		}
	}
	view(t, c, func(tx *catalog.Tx) error {
		n := 0
		for j, err := range tx.JobsIn(catalog.JobQueued, catalog.JobFailed) {
			if err != nil || j.State != catalog.JobQueued && j.State != catalog.JobFailed {
				t.Errorf("job %+v, %v", j, err)
			}
			n++
		}
		if n != 13 {
			t.Errorf("%d jobs in two states, want 13", n)
		}
		return nil
	})
}

func TestAPageTokenOfAnotherListIsRefused(t *testing.T) {
	c := create(t)
	update(t, c, func(tx *catalog.Tx) error {
		for i := range 3 {
			if err := tx.PutAgent(catalog.Agent{ID: repo.NewID(), Name: fmt.Sprintf("db%d", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, c, func(tx *catalog.Tx) error {
		_, token, err := tx.Agents(catalog.Page{Size: 1}, nil)
		if err != nil || token == "" {
			t.Fatalf("token %q, %v", token, err)
		}
		_, _, err = tx.Tokens(catalog.Page{Token: token}, nil)
		wants(t, err, errs.Invalid, "page token")
		for _, page := range []catalog.Page{{Token: "rubbish!"}, {Token: "AAAA"}, {Size: -1}, {Size: 1001}} {
			_, _, err := tx.Agents(page, nil)
			wants(t, err, errs.Invalid, "page")
		}
		return nil
	})
}

func TestALogKeepsItsNewestLines(t *testing.T) {
	c := create(t)
	job, other := repo.ID{1}, repo.ID{2}
	update(t, c, func(tx *catalog.Tx) error {
		if err := tx.AppendLog(other, catalog.LogLine{Message: "mine"}); err != nil {
			return err
		}
		for i := range catalog.MaxLogLines/100 + 3 {
			lines := make([]catalog.LogLine, 100)
			for k := range lines {
				lines[k].Message = fmt.Sprint(i*100 + k + 1)
			}
			if err := tx.AppendLog(job, lines...); err != nil {
				return err
			}
		}
		return nil
	})
	got := collect(t, c, 999, func(tx *catalog.Tx, p catalog.Page) ([]catalog.LogLine, string, error) { return tx.Logs(job, p) })
	if len(got) != catalog.MaxLogLines || got[0].Message != "301" || got[len(got)-1].Number != catalog.MaxLogLines+300 {
		t.Errorf("%d lines from %+v to %+v", len(got), got[0], got[len(got)-1])
	}
	if mine := collect(t, c, 9, func(tx *catalog.Tx, p catalog.Page) ([]catalog.LogLine, string, error) { return tx.Logs(other, p) }); len(mine) != 1 {
		t.Errorf("another job's log: %+v", mine)
	}
}

func TestAttemptsAreGivenOldestFirstAndTrimmed(t *testing.T) {
	c := create(t)
	job := repo.ID{0xff, 0xff}
	update(t, c, func(tx *catalog.Tx) error {
		for i := range 30 {
			if err := tx.PutAttempt(catalog.Attempt{Job: job, Fence: repo.Fence{Epoch: 1 + uint64(i/10), Counter: uint64(i + 1)}}); err != nil {
				return err
			}
		}
		return tx.TrimAttempts(job, 20)
	})
	view(t, c, func(tx *catalog.Tx) error {
		for _, last := range []int{3, 20, 100} {
			got, err := tx.Attempts(job, last)
			want := min(last, 20)
			if err != nil || len(got) != want || got[want-1].Fence.Counter != 30 || got[0].Fence.Counter != uint64(31-want) {
				t.Errorf("last %d: %v, %v", last, got, err)
			}
		}
		return nil
	})
}

func TestPacksLeaveTheOpenOnesWhenIndexed(t *testing.T) {
	c := create(t)
	job := repo.NewID()
	p := catalog.Pack{ID: catalog.PackID{1}, Job: job, State: catalog.PackIntent, Domain: seal.DomainID{1}}
	open := func(s catalog.PackState) (n int) {
		view(t, c, func(tx *catalog.Tx) error {
			for _, err := range tx.OpenPacks(s) {
				if err != nil {
					return err
				}
				n++
			}
			return nil
		})
		return n
	}
	for _, step := range []struct {
		state          catalog.PackState
		intent, stored int
	}{{catalog.PackIntent, 1, 0}, {catalog.PackStored, 0, 1}, {catalog.PackIndexed, 0, 0}} {
		p.State = step.state
		update(t, c, func(tx *catalog.Tx) error { return tx.PutPack(p) })
		if i, s := open(catalog.PackIntent), open(catalog.PackStored); i != step.intent || s != step.stored {
			t.Errorf("state %d: %d intents, %d stored", step.state, i, s)
		}
	}
	q := catalog.Pack{ID: catalog.PackID{2}, Job: job, State: catalog.PackStored}
	update(t, c, func(tx *catalog.Tx) error { return errors.Join(tx.PutPack(q), tx.SweepPacks(job)) })
	view(t, c, func(tx *catalog.Tx) error {
		for left, err := range tx.PacksOf(job) {
			if err != nil || left.ID != q.ID {
				t.Errorf("pack %+v, %v", left, err)
			}
		}
		return nil
	})
	if _, ok, err := c.NextShipment(t.Context(), false); ok || err != nil {
		t.Errorf("packs are exported: %v, %v", ok, err)
	}
}

func TestTheAuditChainShowsEveryChange(t *testing.T) {
	c := create(t)
	for i := range 5 {
		update(t, c, func(tx *catalog.Tx) error {
			r, err := tx.AppendAudit(catalog.AuditRecord{Actor: "operator/a", Action: "x", Object: fmt.Sprint(i), Outcome: "ok"})
			if r.Number != uint64(i+1) {
				t.Errorf("number %d", r.Number)
			}
			return err
		})
	}
	view(t, c, func(tx *catalog.Tx) error {
		if n, err := tx.VerifyAudit(); n != 5 || err != nil {
			t.Errorf("%d records, %v", n, err)
		}
		return nil
	})
	raw := func(fn func(tx *catalog.Tx)) {
		t.Helper()
		wants(t, c.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
			fn(tx)
			_, err := tx.VerifyAudit()
			return err // the change is taken back
		}), errs.Corrupt, "audit record")
	}
	key := []byte{0, 0, 0, 0, 0, 0, 0, 3}
	raw(func(tx *catalog.Tx) { _ = tx.Bolt().Bucket([]byte("audit")).Delete(key) })
	raw(func(tx *catalog.Tx) {
		b := tx.Bolt().Bucket([]byte("audit"))
		v := slices.Clone(b.Get(key))
		at := strings.Index(string(v), "operator/a")
		v[at] = 'O'
		_ = b.Put(key, v)
	})
}

func TestFencesAreUniqueAndGrow(t *testing.T) {
	c := create(t)
	var last repo.Fence
	for i := range 10 {
		err := c.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
			f, err := tx.NextFence()
			if err == nil && (!last.Less(f) || f.Epoch != 2) {
				t.Errorf("%s after %s", f, last)
			}
			if i%3 == 1 {
				return errs.Canceled // a fence that was not committed may be given out again
			}
			last = f
			return err
		})
		if i%3 != 1 && err != nil {
			t.Fatal(err)
		}
	}
}
