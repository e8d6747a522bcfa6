package api_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/report"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// able is the hello of an agent that can hold drills.
func able(change func(h *tuskvaultv1.Hello)) *tuskvaultv1.Hello {
	h := hello()
	h.Build.Capability, h.Allow = 2, []string{"backup", "drill"}
	h.Inventory.Drill = &tuskvaultv1.DrillInventory{FreeDiskBytes: 10 << 30,
		Servers: []*tuskvaultv1.ServerInstallation{{Folder: "/pg/bin", VersionNum: 150018, Extensions: []string{"plpgsql"}, ExtensionsKnown: true}}}
	if change != nil {
		change(h)
	}
	return h
}

func TestADrillIsPlacedBeforeItIsQueuedOrRefusedWithReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), able(func(h *tuskvaultv1.Hello) { h.Inventory.Drill.FreeDiskBytes = 1 << 20 }))
		w.session(w.agent("db2"), able(nil))
		s := w.putSnapshot(w.instanceOf("db1", "main"), time.Now(), true, "a", "b")
		client := tuskvaultv1.NewSnapshotServiceClient(w.dial(w.operator("o", catalog.RoleOperator).cert))
		admin := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("adm", catalog.RoleAdmin).cert))
		request := func(change func(r *tuskvaultv1.VerifySnapshotRequest)) *tuskvaultv1.VerifySnapshotRequest {
			r := &tuskvaultv1.VerifySnapshotRequest{RequestId: repo.NewID().String(), Snapshot: s.ID.String()}
			if change != nil {
				change(r)
			}
			return r
		}
		assertion := func(a *tuskvaultv1.Assertion) func(r *tuskvaultv1.VerifySnapshotRequest) {
			return func(r *tuskvaultv1.VerifySnapshotRequest) { r.Assertions = append(r.Assertions, a) }
		}
		for name, c := range map[string]struct {
			change func(r *tuskvaultv1.VerifySnapshotRequest)
			kind   *errs.Kind
			words  string
		}{
			"nobody has the disk":      {nil, errs.Conflict, "db1: its drill folder has 1.0 MiB free"},
			"no id":                    {func(r *tuskvaultv1.VerifySnapshotRequest) { r.RequestId = "" }, errs.Invalid, "request_id"},
			"no such snapshot":         {func(r *tuskvaultv1.VerifySnapshotRequest) { r.Snapshot = "00ff" }, errs.NotFound, "00ff"},
			"no such database":         {func(r *tuskvaultv1.VerifySnapshotRequest) { r.Databases = []string{"shap"} }, errs.NotFound, "shop"},
			"a database twice":         {func(r *tuskvaultv1.VerifySnapshotRequest) { r.Databases = []string{"shop", "shop"} }, errs.Invalid, "twice"},
			"no such agent":            {func(r *tuskvaultv1.VerifySnapshotRequest) { r.Agent = "db3" }, errs.NotFound, "db3"},
			"an agent that may not":    {func(r *tuskvaultv1.VerifySnapshotRequest) { r.Agent = "db2" }, errs.Denied, "role drill"},
			"too little time":          {func(r *tuskvaultv1.VerifySnapshotRequest) { r.Timeout = durationpb.New(time.Second) }, errs.Invalid, "timeout"},
			"too many streams":         {func(r *tuskvaultv1.VerifySnapshotRequest) { r.Jobs = 1000 }, errs.Invalid, "jobs"},
			"an assertion elsewhere":   {assertion(&tuskvaultv1.Assertion{Database: "other", Sql: "SELECT true"}), errs.NotFound, "other"},
			"an assertion of nothing":  {assertion(&tuskvaultv1.Assertion{Database: "shop", Sql: "  "}), errs.Invalid, "no query"},
			"an assertion too long":    {assertion(&tuskvaultv1.Assertion{Database: "shop", Sql: strings.Repeat("x", 9000)}), errs.Invalid, "at most"},
			"an assertion with a zero": {assertion(&tuskvaultv1.Assertion{Database: "shop", Sql: "SELECT '\x00'"}), errs.Invalid, "assertion"},
		} {
			_, err := client.VerifySnapshot(t.Context(), request(c.change))
			t.Log(name)
			wantKind(t, err, c.kind, c.words)
		}
		if len(w.jobs.created) != 0 {
			t.Fatalf("%d jobs made of refused requests", len(w.jobs.created))
		}

		if _, err := admin.SetAgentDrills(t.Context(), &tuskvaultv1.SetAgentDrillsRequest{Agent: "db2", Drills: true}); err != nil {
			t.Fatal(err)
		}
		good := request(func(r *tuskvaultv1.VerifySnapshotRequest) {
			r.Snapshot = "latest:db1/main"
			r.Assertions = []*tuskvaultv1.Assertion{{Database: "shop", Sql: "SELECT true"}, {Database: "shop", Name: "n", Sql: "SELECT 1", Expect: "1"}}
		})
		r, err := client.VerifySnapshot(t.Context(), good)
		if err != nil {
			t.Fatal(err)
		}
		id, _ := repo.ParseID(r.GetJob().GetId())
		spec := w.jobs.created[id]
		if spec.Drill == nil || spec.Drill.Snapshot != s.ID || spec.Agent != w.instanceOf("db2", "main").Agent || spec.Instance != s.Instance || len(spec.Drill.Assertions) != 2 ||
			spec.Drill.Assertions[0].Name != "1: SELECT true" || spec.Drill.AgentName != "db2" || !strings.Contains(fmt.Sprint(spec.Drill.Placement), "db1: its drill folder") {
			t.Errorf("spec %+v, drill %+v", spec, spec.Drill)
		}
		if got := w.audited("job.drill"); len(got) != 1 || !strings.Contains(got[0].Detail, "on agent db2") || !strings.Contains(got[0].Detail, "SELECT true") {
			t.Errorf("audit %+v", got)
		}
		if got := w.audited("agent.drills"); len(got) != 1 || got[0].Actor != "operator/adm" {
			t.Errorf("audit %+v", got)
		}
		// The role is an admin's to give.
		mine := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("p", catalog.RoleOperator).cert))
		_, err = mine.SetAgentDrills(t.Context(), &tuskvaultv1.SetAgentDrillsRequest{Agent: "db1", Drills: true})
		wantKind(t, err, errs.Denied)
	})
}

func TestADrillIsOfferedWithTheKeysOfItsDomainAndItsReportTakenAsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		guest := w.session(w.agent("db2"), able(nil))
		i, own := w.instanceOf("db1", "main"), w.instanceOf("db2", "main")
		snapshot := w.putSnapshot(i, time.Now(), true, "a")
		ref := w.jobs.giveDrill(own.Agent, i, snapshot)
		offer := next(guest, (*tuskvaultv1.SessionResponse).GetOffer)
		d := offer.GetDrill()
		if d.GetSnapshotId() != snapshot.ID.String() || len(d.GetAssertions()) != 1 || d.GetAgent() != "" || len(d.GetPlacement()) != 0 {
			t.Errorf("offer %v", offer)
		}
		if g := offer.GetGrant(); string(g.GetDomainId()) != string(i.Domain[:]) || len(g.GetCutKey()) != 0 || len(g.GetSealKeys()) == 0 {
			t.Error("grant is not one for reading the snapshot's domain")
		}
		guest.accept(offer.GetAttempt())
		guest.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Result{Result: &tuskvaultv1.JobResult{Attempt: offer.GetAttempt(),
			Outcome: tuskvaultv1.Outcome_OUTCOME_SUCCEEDED, Drill: &tuskvaultv1.DrillReport{Statement: []byte("s"), Signature: []byte("g"), Certificate: []byte("c"),
				Verdict: "passed", Databases: []*tuskvaultv1.DrillDatabase{{Name: "a lie beside it"}}}}}})
		next(guest, (*tuskvaultv1.SessionResponse).GetResultAck)
		got := w.jobs.drills[ref]
		if got == nil || string(got.Statement)+string(got.Signature)+string(got.Certificate) != "sgc" || w.jobs.results[ref].DrillVerdict != "" {
			t.Errorf("report %+v, result %+v", got, w.jobs.results[ref])
		}
	})
}

// giveDrill queues a drill for an agent.
func (f *fakeJobs) giveDrill(agent repo.AgentID, i catalog.Instance, s catalog.Snapshot) job.Ref {
	f.mu.Lock()
	f.counter++
	id := repo.NewID()
	ref := job.Ref{Job: id, Fence: repo.Fence{Epoch: 1, Counter: f.counter}}
	f.queue[agent] = append(f.queue[agent], job.Offer{Ref: ref, Instance: i, Domain: s.Domain, Snapshot: s, Job: catalog.Job{ID: id, Kind: catalog.JobDrill,
		Instance: i.ID, InstanceName: i.FullName(), Agent: agent, Current: ref.Fence, SnapshotID: s.ID, Drill: &catalog.DrillSpec{Snapshot: s.ID,
			AgentName: "db2", Placement: []string{"why"}, Assertions: []catalog.Assertion{{Database: "shop", Name: "n", SQL: "SELECT true"}}}}})
	f.owner[ref], f.newest[id] = agent, ref.Fence
	f.mu.Unlock()
	f.hub.Wake(agent)
	return ref
}

func TestReportsOfDrillsAreReadFromWhatWasSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		s := w.putSnapshot(w.instanceOf("db1", "main"), time.Now(), true, "a")
		client := tuskvaultv1.NewSnapshotServiceClient(w.dial(w.operator("v", catalog.RoleViewer).cert))
		put := func(verdict report.Verdict, asked []string, at time.Time) {
			r := &report.Report{Asked: asked, Databases: []report.Database{{Name: "shop", State: "complete", Restored: true, Equal: 1, Amcheck: report.AmcheckNotAvailable}}}
			if verdict == report.Failed {
				r.Databases[0].Differing = 1
			}
			r.Settle()
			b, err := r.Encode()
			if err != nil || r.Verdict != verdict {
				t.Fatal(err, r.Verdict)
			}
			check(t, "put drill", w.catalog.Update(t.Context(), catalog.Async, func(tx *catalog.Tx) error {
				return tx.PutDrill(catalog.Drill{Snapshot: s.ID, Job: repo.NewID(), AgentName: "db1", Verdict: string(verdict), Whole: len(asked) == 0, Ended: at, Received: at},
					catalog.DrillReport{Statement: b, Signature: []byte("g"), Certificate: []byte("c")})
			}))
		}
		state := func() *tuskvaultv1.Snapshot {
			r, err := client.ListSnapshots(t.Context(), &tuskvaultv1.ListSnapshotsRequest{})
			if err != nil || len(r.GetSnapshots()) != 1 {
				t.Fatal(err)
			}
			return r.GetSnapshots()[0]
		}
		if v := state(); v.GetVerifyTime() != nil || v.GetLastDrillVerdict() != "" {
			t.Errorf("before any drill %v", v)
		}
		at := time.Now()
		put(report.Passed, []string{"shop"}, at)
		if v := state(); v.GetVerifyTime() != nil || v.GetLastDrillVerdict() != "passed" {
			t.Errorf("after a part passed %v", v)
		}
		put(report.Passed, nil, at.Add(time.Hour))
		put(report.Failed, nil, at.Add(2*time.Hour))
		if v := state(); !v.GetVerifyTime().AsTime().Equal(at.Add(time.Hour)) || v.GetLastDrillVerdict() != "failed" {
			t.Errorf("after all %v", v)
		}
		status, err := tuskvaultv1.NewStatusServiceClient(w.dial(w.operator("v2", catalog.RoleViewer).cert)).GetStatus(t.Context(), &tuskvaultv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if n := status.GetNotices(); status.GetDrillsFailed() != 1 || len(n) == 0 || n[0].GetHint() != "tuskctl snapshot show "+s.ID.Short() || !strings.Contains(n[0].GetMessage(), "1 snapshot did not pass its last drill") {
			t.Errorf("status after a drill failed: %d, %v", status.GetDrillsFailed(), n)
		}
		var seen []string
		for page := (&tuskvaultv1.PageRequest{Size: 2}); ; {
			r, err := client.ListDrillReports(t.Context(), &tuskvaultv1.ListDrillReportsRequest{Snapshot: s.ID.Short(), Page: page})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range r.GetReports() {
				seen = append(seen, d.GetVerdict())
				if !d.GetWithoutAmcheck() || len(d.GetDatabases()) != 1 || len(d.GetStatement()) == 0 || string(d.GetSignature()) != "g" {
					t.Errorf("report %v", d)
				}
			}
			if page.Token = r.GetPage().GetNextToken(); page.Token == "" {
				break
			}
		}
		if fmt.Sprint(seen) != "[failed passed passed]" {
			t.Errorf("reports %v", seen)
		}
		shown, err := client.GetSnapshot(t.Context(), &tuskvaultv1.GetSnapshotRequest{Snapshot: s.ID.String()})
		if err != nil || len(shown.GetDrills()) != 3 || len(shown.GetDrills()[0].GetStatement()) != 0 || shown.GetSnapshot().GetLastDrillVerdict() != "failed" {
			t.Errorf("show %v, %v", shown, err)
		}
	})
}
