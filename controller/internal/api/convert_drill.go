package api

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/internal/report"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func toDrillWork(s catalog.DrillSpec) *tuskvaultv1.DrillWork {
	out := &tuskvaultv1.DrillWork{SnapshotId: s.Snapshot.String(), Databases: s.Databases, Jobs: s.Jobs, Timeout: toDuration(s.Timeout),
		KeepGoing: s.KeepGoing, Agent: s.AgentName, Placement: s.Placement}
	for _, a := range s.Assertions {
		out.Assertions = append(out.Assertions, &tuskvaultv1.Assertion{Database: a.Database, Name: a.Name, Sql: a.SQL, Expect: a.Expect})
	}
	return out
}

// fromDrillReport takes what an agent signed, and nothing that stands beside it.
func fromDrillReport(r *tuskvaultv1.DrillReport) *catalog.DrillReport {
	if r == nil {
		return nil
	}
	return &catalog.DrillReport{Statement: r.GetStatement(), Signature: r.GetSignature(), Certificate: r.GetCertificate()}
}

// toDrillReport gives a report. What it says is read from the signed bytes; they
// were checked when they came, and bytes that cannot be read any more leave what
// the catalog knows.
func toDrillReport(d catalog.Drill, signed catalog.DrillReport) *tuskvaultv1.DrillReport {
	out := &tuskvaultv1.DrillReport{Statement: signed.Statement, Signature: signed.Signature, Certificate: signed.Certificate,
		SnapshotId: d.Snapshot.String(), JobId: d.Job.String(), Agent: d.AgentName, Verdict: d.Verdict}
	r, err := report.Decode(signed.Statement)
	if err != nil {
		out.Reason = "the report cannot be read: " + err.Error()
		return out
	}
	out.Reason, out.WithoutAmcheck, out.NetworkIsolated = r.Reason, r.WithoutAmcheck(), r.Host.NetworkIsolated
	out.ServerVersionNum, out.Host, out.OperatingSystem = int32(r.Host.ServerVersion), r.Host.Name, r.Host.OperatingSystem
	out.StartTime, out.EndTime = toTime(r.Started), toTime(r.Ended)
	out.TransferredBytes, out.DiskBytes, out.Phases = r.TransferredBytes, r.DiskBytes(), toPhases(r.Phases)
	for i := range r.Databases {
		out.Databases = append(out.Databases, toDrillDatabase(&r.Databases[i]))
	}
	return out
}

func toDrillDatabase(d *report.Database) *tuskvaultv1.DrillDatabase {
	out := &tuskvaultv1.DrillDatabase{Name: d.Name, Verdict: string(d.Verdict), Reason: d.Reason, Rows: d.Rows, PlainBytes: d.PlainBytes, DiskBytes: d.DiskBytes,
		TablesEqual: d.Equal, TablesDiffering: d.Differing, TablesNotCompared: d.NotCompared, TablesOmitted: d.Omitted,
		Amcheck: string(d.Amcheck), AmcheckOutput: d.Output, Extensions: d.Extensions, Locale: d.Locale, Warnings: d.Warnings, Work: toPhases(d.Work)}
	for _, t := range d.Tables {
		out.Tables = append(out.Tables, &tuskvaultv1.DrillTable{Name: t.Name, Result: string(t.Result), Rows: t.Rows, Reason: t.Reason})
	}
	for _, a := range d.Assertions {
		out.Assertions = append(out.Assertions, &tuskvaultv1.DrillAssertion{Name: a.Name, Result: string(a.Result), Detail: a.Detail})
	}
	return out
}

func toPhases(list []report.Phase) []*tuskvaultv1.DrillPhase {
	var out []*tuskvaultv1.DrillPhase
	for _, p := range list {
		out = append(out, &tuskvaultv1.DrillPhase{Name: p.Name, Database: p.Database, Duration: durationpb.New(time.Duration(p.Millis) * time.Millisecond)})
	}
	return out
}

func toDrillInventory(v catalog.DrillInventory) *tuskvaultv1.DrillInventory {
	out := &tuskvaultv1.DrillInventory{Refusal: v.Refusal, FreeDiskBytes: v.FreeDiskBytes}
	for _, s := range v.Servers {
		out.Servers = append(out.Servers, &tuskvaultv1.ServerInstallation{Folder: s.Folder, VersionNum: s.Version, Extensions: s.Extensions,
			ExtensionsKnown: s.ExtensionsKnown, Amcheck: s.Amcheck})
	}
	return out
}

func fromDrillInventory(v *tuskvaultv1.DrillInventory) catalog.DrillInventory {
	out := catalog.DrillInventory{Refusal: v.GetRefusal(), FreeDiskBytes: v.GetFreeDiskBytes()}
	for _, s := range v.GetServers() {
		out.Servers = append(out.Servers, catalog.ServerInstallation{Folder: s.GetFolder(), Version: s.GetVersionNum(), Extensions: s.GetExtensions(),
			ExtensionsKnown: s.GetExtensionsKnown(), Amcheck: s.GetAmcheck()})
	}
	return out
}
