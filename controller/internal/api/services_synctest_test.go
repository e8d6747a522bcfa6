package api_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pg"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// putSnapshot makes a real snapshot of the instance, with one table a name.
func (w *world) putSnapshot(i catalog.Instance, committed time.Time, complete bool, tables ...string) catalog.Snapshot {
	w.t.Helper()
	shop := repo.Database{Name: "shop", OID: 5, State: repo.DatabaseComplete, Encoding: "UTF8", Time: committed,
		Archive: &repo.Archive{Tool: 150018, FormatVersion: "1.14"}}
	for n, name := range tables {
		shop.Tables = append(shop.Tables, repo.Table{OID: uint32(100 + n), Schema: "public", Name: pg.Name(name)})
	}
	return w.putContent(i, committed, complete, &repo.References{}, &repo.Logical{Databases: []repo.Database{shop}})
}

// putContent makes a snapshot of anything.
func (w *world) putContent(i catalog.Instance, committed time.Time, complete bool, refs *repo.References, logical *repo.Logical) catalog.Snapshot {
	w.t.Helper()
	ctx := w.t.Context()
	domain, err := w.repository.Domain(ctx, i.Domain)
	if err != nil {
		w.t.Fatal(err)
	}
	id := repo.NewID()
	content := &repo.Content{Kind: repo.KindLogical, Started: committed.Add(-time.Minute), Finished: committed, Logical: logical}
	references, err := repo.SealReferences(refs, domain.Keys().Refs(), i.Domain, id)
	if err != nil {
		w.t.Fatal(err)
	}
	sealed, err := repo.SealContent(content, domain.Keys().Seal(1), i.Domain, id)
	if err != nil {
		w.t.Fatal(err)
	}
	prepared, err := domain.PrepareSnapshot(repo.SnapshotHeader{Kind: repo.KindLogical, Complete: complete, Instance: i.ID, Job: id, SealEpoch: 1,
		Fence: repo.Fence{Epoch: 1, Counter: 1}}, references, sealed, repo.Commit{Agent: i.Agent, Time: committed})
	if err != nil {
		w.t.Fatal(err)
	}
	if r, err := domain.PutSnapshot(ctx, prepared); err != nil || r.Outcome != repo.OutcomeDone {
		w.t.Fatalf("put snapshot: %v, %v", r, err)
	}
	s := catalog.Snapshot{ID: id, Instance: i.ID, InstanceName: i.FullName(), Agent: i.Agent, Domain: i.Domain, Kind: repo.KindLogical, Started: committed.Add(-time.Minute),
		Committed: committed, Complete: complete, SealEpoch: 1, ObjectHash: prepared.Hash(), Databases: 1, StoredBytes: 10, PlainBytes: 100, ServerVersion: 150018, Incarnation: 1}
	if err := w.catalog.Update(ctx, catalog.Async, func(tx *catalog.Tx) error { return tx.PutSnapshot(s) }); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestSnapshotsAreFoundByIdPrefixAndLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		w.session(w.agent("db2"), hello())
		one, two := w.instanceOf("db1", "main"), w.instanceOf("db2", "main")
		began := time.Now()
		first := w.putSnapshot(one, began.Add(time.Hour), true, "b", "a")
		second := w.putSnapshot(one, began.Add(2*time.Hour), true, "c")
		broken := w.putSnapshot(one, began.Add(3*time.Hour), false, "d")
		w.session(w.agent("db3"), hello())
		client := tuskvaultv1.NewSnapshotServiceClient(w.dial(w.operator("v", catalog.RoleViewer).cert))
		at := began.Add(90 * time.Minute).UTC().Format(time.RFC3339)
		for _, c := range []struct {
			ref  string
			want catalog.Snapshot
		}{
			{first.ID.String(), first}, {first.ID.String()[:12], first}, {"latest", second}, {"latest:db1/main", second},
			{"latest:db1/main@" + at, first}, {"latest@" + at, first}, {broken.ID.String(), broken}, {"latest:" + one.ID.String(), second},
		} {
			r, err := client.GetSnapshot(t.Context(), &tuskvaultv1.GetSnapshotRequest{Snapshot: c.ref})
			if err != nil {
				t.Errorf("%s: %v", c.ref, err)
			} else if r.GetSnapshot().GetId() != c.want.ID.String() || len(r.GetDatabases()) != 1 || r.GetDatabases()[0].GetName() != "shop" {
				t.Errorf("%s: %v, want %s", c.ref, r, c.want.ID)
			}
		}
		for _, c := range []struct {
			ref   string
			kind  *errs.Kind
			words string
		}{
			{"ffffffffffffffffffffffffffffffff", errs.NotFound, "snapshot"}, {"latest:db1/mian", errs.NotFound, "db1/main"},
			{"latest:db2/main", errs.NotFound, "none"}, {"latest@2001-13-01", errs.Invalid, "RFC 3339"}, {"", errs.Invalid, "field snapshot"},
			{"latest:db1/main@1999-01-01", errs.NotFound, "none is that old"}, {"latest:", errs.Invalid, "field snapshot"}, {"later", errs.NotFound, "later"},
		} {
			_, err := client.GetSnapshot(t.Context(), &tuskvaultv1.GetSnapshotRequest{Snapshot: c.ref})
			wantKind(t, err, c.kind, c.words)
		}
		w.putSnapshot(two, began.Add(30*time.Minute), false, "x")
		_, err := client.GetSnapshot(t.Context(), &tuskvaultv1.GetSnapshotRequest{Snapshot: "latest:db2/main"})
		wantKind(t, err, errs.NotFound, "no complete one")

		var names []string
		page := &tuskvaultv1.PageRequest{Size: 1}
		for {
			r, err := client.ListSnapshotTables(t.Context(), &tuskvaultv1.ListSnapshotTablesRequest{Snapshot: first.ID.String(), Page: page})
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range r.GetTables() {
				names = append(names, row.GetName())
			}
			if page.Token = r.GetPage().GetNextToken(); page.Token == "" {
				break
			}
		}
		if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" {
			t.Errorf("tables (-want +got):\n%s", diff)
		}
		_, err = client.ListSnapshotTables(t.Context(), &tuskvaultv1.ListSnapshotTablesRequest{Snapshot: "latest", Database: "shopp"})
		wantKind(t, err, errs.NotFound, "near matches: shop")
		reads := w.audited("snapshot.read")
		if len(reads) < 10 || reads[0].Actor != "operator/v" || !strings.HasPrefix(reads[0].Object, "snapshot ") {
			t.Errorf("%d reads audited, first %+v", len(reads), reads[:min(1, len(reads))])
		}
	})
}

func TestARestoreIsCheckedBeforeItIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		older, standby := instance("main", 9), instance("standby", 10)
		older.ServerVersionNum, standby.InRecovery = 140012, true
		w.session(w.agent("db1"), hello())
		w.session(w.agent("db2"), hello(older, standby, instance("fresh", 11)))
		s := w.putSnapshot(w.instanceOf("db1", "main"), time.Now(), true, "a")
		client := tuskvaultv1.NewJobServiceClient(w.dial(w.operator("o", catalog.RoleOperator).cert))
		request := func(fn func(*tuskvaultv1.StartRestoreRequest)) *tuskvaultv1.StartRestoreRequest {
			r := &tuskvaultv1.StartRestoreRequest{RequestId: repo.NewID().String(), Snapshot: s.ID.String(), TargetInstance: "db2/fresh"}
			fn(r)
			return r
		}
		for what, c := range map[string]struct {
			change func(*tuskvaultv1.StartRestoreRequest)
			kind   *errs.Kind
			words  string
		}{
			"older major":    {func(r *tuskvaultv1.StartRestoreRequest) { r.TargetInstance = "db2/main" }, errs.Conflict, "PostgreSQL 14"},
			"standby":        {func(r *tuskvaultv1.StartRestoreRequest) { r.TargetInstance = "db2/standby" }, errs.Conflict, "standby"},
			"no such target": {func(r *tuskvaultv1.StartRestoreRequest) { r.TargetInstance = "db2/fesh" }, errs.NotFound, "db2/fresh"},
			"no target":      {func(r *tuskvaultv1.StartRestoreRequest) { r.TargetInstance = "" }, errs.Invalid, "target_instance"},
			"ambiguous":      {func(r *tuskvaultv1.StartRestoreRequest) { r.TargetInstance = "main" }, errs.Conflict, "db1/main"},
			"not allowed":    {func(r *tuskvaultv1.StartRestoreRequest) { r.Replace = true }, errs.Denied, "restore-replace"},
			"globals":        {func(r *tuskvaultv1.StartRestoreRequest) { r.Globals = true }, errs.Denied, "restore-globals"},
			"no snapshot":    {func(r *tuskvaultv1.StartRestoreRequest) { r.Snapshot = strings.Repeat("f", 32) }, errs.NotFound, "snapshot"},
			"bad id":         {func(r *tuskvaultv1.StartRestoreRequest) { r.RequestId = "1" }, errs.Invalid, "request_id"},
			"two onto one": {func(r *tuskvaultv1.StartRestoreRequest) {
				r.Databases = []*tuskvaultv1.DatabaseMapping{{Source: "a"}, {Source: "b", Target: "a"}}
			}, errs.Invalid, "databases"},
			"too many workers": {func(r *tuskvaultv1.StartRestoreRequest) { r.Jobs = 10000 }, errs.Invalid, "jobs"},
		} {
			_, err := client.StartRestore(t.Context(), request(c.change))
			if err == nil {
				t.Errorf("%s: queued", what)
				continue
			}
			wantKind(t, err, c.kind, c.words)
		}
		if failed := w.audited("call.fail"); len(failed) != 5 || failed[0].Actor != "operator/o" {
			t.Errorf("audited %+v, want the five that were refused or impossible", failed)
		}
		if len(w.jobs.created) != 0 {
			t.Fatalf("%d jobs made of refused requests", len(w.jobs.created))
		}
		good := request(func(r *tuskvaultv1.StartRestoreRequest) { r.Snapshot = "latest:db1/main" })
		r, err := client.StartRestore(t.Context(), good)
		if err != nil {
			t.Fatal(err)
		}
		id, _ := repo.ParseID(r.GetJob().GetId())
		if spec := w.jobs.created[id]; spec.Restore.Snapshot != s.ID || spec.Instance != w.instanceOf("db2", "fresh").ID || spec.By != "operator/o" {
			t.Errorf("spec %+v", spec)
		}
		if got := w.audited("job.restore"); len(got) != 1 || !strings.Contains(got[0].Detail, "another domain") {
			t.Errorf("audit %+v", got)
		}
		dry := request(func(r *tuskvaultv1.StartRestoreRequest) { r.Replace, r.DryRun = true, true })
		if _, err := client.StartRestore(t.Context(), dry); err != nil {
			t.Errorf("a dry run needs no leave: %v", err)
		}
	})
}

func TestARepeatedRestoreOfLatestMeansWhatItMeantFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		i := w.instanceOf("db1", "main")
		first := w.putSnapshot(i, time.Now(), true, "a")
		id := repo.NewID()
		if err := w.catalog.Update(t.Context(), catalog.Async, func(tx *catalog.Tx) error {
			return tx.PutJob(catalog.Job{ID: id, Kind: catalog.JobRestore, State: catalog.JobQueued, Instance: i.ID, InstanceName: i.FullName(), Agent: i.Agent,
				Created: time.Now(), Restore: &catalog.RestoreSpec{Snapshot: first.ID}})
		}); err != nil {
			t.Fatal(err)
		}
		w.putSnapshot(i, time.Now().Add(time.Hour), true, "b")
		client := tuskvaultv1.NewJobServiceClient(w.dial(w.operator("o", catalog.RoleOperator).cert))
		if _, err := client.StartRestore(t.Context(), &tuskvaultv1.StartRestoreRequest{RequestId: id.String(), Snapshot: "latest", TargetInstance: "db1/main"}); err != nil {
			t.Fatal(err)
		}
		if got := w.jobs.created[id].Restore.Snapshot; got != first.ID {
			t.Errorf("snapshot %s, want %s", got, first.ID)
		}
	})
}

func TestABackupNamesItsInstanceInAnyForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		i := w.instanceOf("db1", "main")
		client := tuskvaultv1.NewJobServiceClient(w.dial(w.operator("o", catalog.RoleOperator).cert))
		for _, ref := range []string{"db1/main", "main", i.ID.String(), i.ID.String()[:10]} {
			id := repo.NewID()
			r, err := client.StartBackup(t.Context(), &tuskvaultv1.StartBackupRequest{RequestId: id.String(), Instance: ref, Databases: []string{"shop*"}})
			if err != nil || r.GetJob().GetId() != id.String() || w.jobs.created[id].Instance != i.ID {
				t.Errorf("%s: %v, %v", ref, r, err)
			}
		}
		_, err := client.StartBackup(t.Context(), &tuskvaultv1.StartBackupRequest{RequestId: repo.NewID().String(), Instance: "db1/mein"})
		wantKind(t, err, errs.NotFound, "near matches: db1/main")
		_, err = client.StartBackup(t.Context(), &tuskvaultv1.StartBackupRequest{RequestId: repo.NewID().String(), Instance: "main", Databases: []string{"[a"}})
		wantKind(t, err, errs.Invalid, "field databases")
	})
}

func TestLabelsAreChangedByOperatorsAndSelect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, name := range []string{"db1", "db2", "db3"} {
			w.session(w.agent(name), hello())
		}
		client := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("x", catalog.RoleAdmin).cert))
		label := func(agent string, set map[string]string, remove ...string) error {
			_, err := client.SetAgentLabels(t.Context(), &tuskvaultv1.SetAgentLabelsRequest{Agent: agent, Set: &tuskvaultv1.Labels{Values: set}, Remove: remove})
			return err
		}
		for _, err := range []error{label("db1", map[string]string{"env": "prod", "tier": "db"}), label("db2", map[string]string{"env": "prod", "tier": "cache"}), label("db2", nil, "tier")} {
			if err != nil {
				t.Fatal(err)
			}
		}
		wantKind(t, label("db1", map[string]string{"ENV": "x"}), errs.Invalid, "field set")
		wantKind(t, label("db1", map[string]string{"env": "x"}, "env"), errs.Invalid, "field remove")
		wantKind(t, label("db1", nil), errs.Invalid, "field set")
		wantKind(t, label("db9", map[string]string{"a": "b"}), errs.NotFound, "near matches: db1")
		for selector, want := range map[string][]string{"env=prod": {"db1", "db2"}, "env=prod,tier": {"db1"}, "!env": {"db3"}, "": {"db1", "db2", "db3"}, "env in (dev)": nil} {
			agents, err := client.ListAgents(t.Context(), &tuskvaultv1.ListAgentsRequest{Selector: selector})
			if err != nil {
				t.Fatal(err)
			}
			instances, err := client.ListInstances(t.Context(), &tuskvaultv1.ListInstancesRequest{Selector: selector})
			if err != nil {
				t.Fatal(err)
			}
			var names, full, wantFull []string
			for _, a := range agents.GetAgents() {
				names = append(names, a.GetName())
			}
			for _, i := range instances.GetInstances() {
				full = append(full, i.GetName())
			}
			for _, name := range want {
				wantFull = append(wantFull, name+"/main")
			}
			if diff := cmp.Diff(want, names) + cmp.Diff(wantFull, full); diff != "" {
				t.Errorf("%q (-want +got):\n%s", selector, diff)
			}
		}
		_, err := client.ListAgents(t.Context(), &tuskvaultv1.ListAgentsRequest{Selector: "a=b=c"})
		wantKind(t, err, errs.Invalid, "selector")
		var paged []string
		for page := (&tuskvaultv1.PageRequest{Size: 2}); ; {
			r, err := client.ListInstances(t.Context(), &tuskvaultv1.ListInstancesRequest{Page: page})
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range r.GetInstances() {
				paged = append(paged, i.GetName())
			}
			if page.Token = r.GetPage().GetNextToken(); page.Token == "" {
				break
			}
		}
		if !slices.Equal(paged, []string{"db1/main", "db2/main", "db3/main"}) {
			t.Errorf("pages %v", paged)
		}
	})
}

func TestMembersOfAClusterShareADomainUntilTheyLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		w.session(w.agent("db2"), hello())
		own := w.instanceOf("db1", "main").Domain
		client := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("x", catalog.RoleAdmin).cert))
		for _, name := range []string{"db1/main", "db2/main"} {
			if _, err := client.JoinInstance(t.Context(), &tuskvaultv1.JoinInstanceRequest{Instance: name, Cluster: "shop"}); err != nil {
				t.Fatal(err)
			}
		}
		one, two := w.instanceOf("db1", "main"), w.instanceOf("db2", "main")
		if one.Domain != two.Domain || one.Domain == own || one.OwnDomain != own {
			t.Errorf("%+v and %+v", one, two)
		}
		_, err := client.JoinInstance(t.Context(), &tuskvaultv1.JoinInstanceRequest{Instance: "db1/main", Cluster: "other"})
		wantKind(t, err, errs.Conflict, "leave db1/main")
		_, err = client.JoinInstance(t.Context(), &tuskvaultv1.JoinInstanceRequest{Instance: "db1/main", Cluster: "a/b"})
		wantKind(t, err, errs.Invalid, "field cluster")
		if _, err := client.LeaveInstance(t.Context(), &tuskvaultv1.LeaveInstanceRequest{Instance: "db1/main"}); err != nil {
			t.Fatal(err)
		}
		if left := w.instanceOf("db1", "main"); left.Domain != own || left.Cluster != "" {
			t.Errorf("after leaving %+v", left)
		}
		_, err = client.LeaveInstance(t.Context(), &tuskvaultv1.LeaveInstanceRequest{Instance: "db1/main"})
		wantKind(t, err, errs.Conflict, "no cluster")
	})
}

func TestLogLevelsAreChangedHereAndAtAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.session(w.agent("db1"), hello())
		w.agent("off")
		client := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("x", catalog.RoleAdmin).cert))
		for agent, level := range map[string]string{"": "debug", "db1": "warn"} {
			if _, err := client.SetLogLevel(t.Context(), &tuskvaultv1.SetLogLevelRequest{Agent: agent, Level: level}); err != nil {
				t.Fatal(err)
			}
		}
		if got := next(s, (*tuskvaultv1.SessionResponse).GetSetLogLevel); got.GetLevel() != "warn" || w.level.name != "debug" {
			t.Errorf("agent %v, controller %q", got, w.level.name)
		}
		_, err := client.SetLogLevel(t.Context(), &tuskvaultv1.SetLogLevelRequest{Level: "loud"})
		wantKind(t, err, errs.Invalid, "field level")
		_, err = client.SetLogLevel(t.Context(), &tuskvaultv1.SetLogLevelRequest{Agent: "off", Level: "warn"})
		wantKind(t, err, errs.Unavailable, "offline")
	})
}

func TestStatusSaysWhatToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		client := tuskvaultv1.NewStatusServiceClient(w.dial(w.operator("v", catalog.RoleViewer).cert))
		hints := func() (out []string) {
			t.Helper()
			r, err := client.GetStatus(t.Context(), &tuskvaultv1.GetStatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range r.GetNotices() {
				if n.GetSeverity() == tuskvaultv1.Severity_SEVERITY_UNSPECIFIED || n.GetMessage() == "" {
					t.Errorf("notice %v", n)
				}
				out = append(out, n.GetHint())
			}
			return out
		}
		if got := hints(); !slices.Contains(got, "tuskctl agent token create") {
			t.Errorf("an empty fleet: %q", got)
		}
		w.session(w.agent("db1"), hello())
		if got := hints(); !slices.Contains(got, "tuskctl backup db1/main") || slices.Contains(got, "tuskctl agent token create") {
			t.Errorf("an unprotected instance: %q", got)
		}
		i := w.instanceOf("db1", "main")
		w.putSnapshot(i, time.Now(), true, "a")
		if got := hints(); len(got) != 0 {
			t.Errorf("all is well, and status says %q", got)
		}
		failed := repo.NewID()
		if err := w.catalog.Update(t.Context(), catalog.Async, func(tx *catalog.Tx) error {
			return tx.PutJob(catalog.Job{ID: failed, Kind: catalog.JobBackup, State: catalog.JobFailed, Instance: i.ID, InstanceName: i.FullName(), Agent: i.Agent,
				Created: time.Now(), Ended: time.Now(), Backup: &catalog.BackupSpec{}, Message: "no space"})
		}); err != nil {
			t.Fatal(err)
		}
		r, err := client.GetStatus(t.Context(), &tuskvaultv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if n := r.GetNotices(); len(n) != 1 || n[0].GetHint() != "tuskctl job logs "+failed.Short() || !strings.Contains(n[0].GetMessage(), "no space") {
			t.Errorf("notices %v", n)
		}
		if r.GetAgentsOnline() != 1 || r.GetInstances() != 1 || r.GetInstancesUnprotected() != 0 || r.GetSnapshots() != 1 || r.GetStoredBytes() != 10 || r.GetJobsFailedRecently() != 1 {
			t.Errorf("status %v", r)
		}
		time.Sleep(25 * time.Hour)
		if got := hints(); slices.ContainsFunc(got, func(h string) bool { return strings.HasPrefix(h, "tuskctl job logs") }) {
			t.Errorf("a day later: %q", got)
		}
	})
}

func TestJobsAreListedShownAndTheirLogsPaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		s := w.session(a, hello())
		i := w.instanceOf("db1", "main")
		id := repo.NewID()
		long := strings.Repeat("x", 8000)
		if err := w.catalog.Update(t.Context(), catalog.Async, func(tx *catalog.Tx) error {
			if err := tx.PutJob(catalog.Job{ID: id, Kind: catalog.JobBackup, State: catalog.JobQueued, Instance: i.ID, InstanceName: i.FullName(), Agent: i.Agent,
				Created: time.Now(), Backup: &catalog.BackupSpec{}}); err != nil {
				return err
			}
			for range 400 {
				if err := tx.AppendLog(id, catalog.LogLine{Fence: repo.Fence{Epoch: 1, Counter: 1}, Level: "info", Message: long}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		client := tuskvaultv1.NewJobServiceClient(w.dial(w.operator("o", catalog.RoleOperator).cert))
		lines, pages := 0, 0
		for page := (&tuskvaultv1.PageRequest{Size: 1000}); ; pages++ {
			r, err := client.ListJobLogs(t.Context(), &tuskvaultv1.ListJobLogsRequest{Job: id.String()[:8], Page: page})
			if err != nil {
				t.Fatal(err)
			}
			lines += len(r.GetLines())
			if page.Token = r.GetPage().GetNextToken(); page.Token == "" {
				break
			}
		}
		if lines != 400 || pages < 2 {
			t.Errorf("%d lines on %d pages: a page of long lines must end early", lines, pages+1)
		}
		list := func(states ...tuskvaultv1.JobState) []*tuskvaultv1.Job {
			t.Helper()
			r, err := client.ListJobs(t.Context(), &tuskvaultv1.ListJobsRequest{Instance: "db1/main", States: states})
			if err != nil {
				t.Fatal(err)
			}
			return r.GetJobs()
		}
		if got := list(tuskvaultv1.JobState_JOB_STATE_QUEUED); len(got) != 1 || got[0].GetMessage() != "" {
			t.Errorf("queued %v", got)
		}
		if got := list(tuskvaultv1.JobState_JOB_STATE_FAILED); len(got) != 0 {
			t.Errorf("failed %v", got)
		}
		_ = s.stream.CloseSend()
		if err := <-s.ended; !errors.Is(err, io.EOF) {
			t.Errorf("a session that its agent ended: %v", err)
		}
		synctest.Wait()
		if got := list(); len(got) != 1 || !strings.Contains(got[0].GetMessage(), "offline") {
			t.Errorf("with the agent gone %v", got)
		}
		_, err := client.ListJobs(t.Context(), &tuskvaultv1.ListJobsRequest{States: []tuskvaultv1.JobState{0}})
		wantKind(t, err, errs.Invalid, "field states")
		_, err = client.GetJob(t.Context(), &tuskvaultv1.GetJobRequest{Job: strings.Repeat("f", 32)})
		wantKind(t, err, errs.NotFound, "job")
	})
}
