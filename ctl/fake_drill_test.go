package ctl_test

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// VerifySnapshot makes a drill whose only database says how it will end.
func (f *fake) VerifySnapshot(_ context.Context, r *tuskvaultv1.VerifySnapshotRequest) (*tuskvaultv1.VerifySnapshotResponse, error) {
	if r.GetAgent() == "full" {
		return nil, fmt.Errorf("verify snapshot c2000000: no agent can hold the drill: full: its drill folder has 1 B free: %w", errs.Conflict)
	}
	instance := "db1/main"
	if len(r.GetDatabases()) > 0 {
		instance = r.GetDatabases()[0] + "/main"
	}
	j := f.start(r.GetRequestId(), instance, tuskvaultv1.JobKind_JOB_KIND_DRILL)
	j.SnapshotId = snapshotB
	j.Drill = &tuskvaultv1.DrillWork{SnapshotId: snapshotB, Databases: r.GetDatabases(), Assertions: r.GetAssertions(), Timeout: r.GetTimeout(), KeepGoing: r.GetKeepGoing(),
		Placement: []string{"db1: chosen, the snapshot's own host", "db2: it is offline"}}
	return &tuskvaultv1.VerifySnapshotResponse{Job: j}, nil
}

// endDrill gives a drill its report.
func (f *fake) endDrill(j *tuskvaultv1.Job) {
	if j.GetDrill() == nil {
		return
	}
	verdict, reason := "passed", ""
	switch j.GetInstance() {
	case "bad/main":
		verdict, reason = "failed", "1 tables differ from the snapshot"
	case "badly/main":
		verdict, reason = "incomplete", "pg_amcheck did not finish"
	}
	j.Result.Drill = f.report(verdict, reason)
	for _, a := range j.GetDrill().GetAssertions() {
		d := j.Result.Drill.Databases[0]
		d.Assertions = append(d.Assertions, &tuskvaultv1.DrillAssertion{Name: a.GetSql() + " in " + a.GetDatabase() + " is " + a.GetExpect(), Result: "holds"})
	}
}

func (f *fake) report(verdict, reason string) *tuskvaultv1.DrillReport {
	d := &tuskvaultv1.DrillDatabase{Name: "shop", Verdict: verdict, Reason: reason, TablesEqual: 6, Rows: 1234, Amcheck: "not available", AmcheckOutput: []string{"there is no pg_amcheck"}}
	if verdict == "failed" {
		d.TablesDiffering = 1
		d.Tables = []*tuskvaultv1.DrillTable{{Name: "public.orders", Result: "differs", Reason: "expected 3 rows, found 2"}, {Name: "public.x", Result: "equal"}}
	}
	return &tuskvaultv1.DrillReport{Verdict: verdict, Reason: reason, WithoutAmcheck: true, Agent: "db1", Host: "host1", OperatingSystem: "Debian", ServerVersionNum: 150018,
		JobId: snapshotA, StartTime: f.ago(time.Hour), EndTime: f.ago(58 * time.Minute), DiskBytes: 1 << 20, Phases: []*tuskvaultv1.DrillPhase{{Name: "initdb", Duration: durationpb.New(time.Second)}},
		Databases: []*tuskvaultv1.DrillDatabase{d}}
}

func (f *fake) ListDrillReports(_ context.Context, r *tuskvaultv1.ListDrillReportsRequest) (*tuskvaultv1.ListDrillReportsResponse, error) {
	switch r.GetSnapshot() {
	case "c2":
	case "c1":
		return &tuskvaultv1.ListDrillReportsResponse{Page: &tuskvaultv1.PageResponse{}}, nil
	default:
		return nil, fmt.Errorf("snapshot %q: %w", r.GetSnapshot(), errs.NotFound)
	}
	return &tuskvaultv1.ListDrillReportsResponse{Reports: []*tuskvaultv1.DrillReport{f.report("failed", "1 tables differ from the snapshot"), f.report("passed", "")},
		Page: &tuskvaultv1.PageResponse{}}, nil
}

func (f *fake) SetAgentDrills(_ context.Context, r *tuskvaultv1.SetAgentDrillsRequest) (*tuskvaultv1.SetAgentDrillsResponse, error) {
	a := f.agents()[0]
	a.Drills = r.GetDrills()
	return &tuskvaultv1.SetAgentDrillsResponse{Agent: a}, nil
}
