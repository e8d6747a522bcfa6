package catalog

import (
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
)

func toDrillSpec(s *DrillSpec) *catalogpb.DrillSpec {
	return &catalogpb.DrillSpec{
		Snapshot: opaque(s.Snapshot), Databases: s.Databases, Jobs: s.Jobs, Timeout: span(s.Timeout), KeepGoing: s.KeepGoing,
		AgentName: s.AgentName, Placement: s.Placement,
		Assertions: each(s.Assertions, func(a Assertion) *catalogpb.Assertion {
			return &catalogpb.Assertion{Database: a.Database, Name: a.Name, Sql: a.SQL, Expect: a.Expect}
		}),
	}
}

func (d *decoder) drillSpec(s *catalogpb.DrillSpec) *DrillSpec {
	return &DrillSpec{
		Snapshot: d.id("snapshot", s.GetSnapshot()), Databases: s.GetDatabases(), Jobs: s.GetJobs(), Timeout: s.GetTimeout().AsDuration(),
		KeepGoing: s.GetKeepGoing(), AgentName: s.GetAgentName(), Placement: s.GetPlacement(),
		Assertions: each(s.GetAssertions(), func(a *catalogpb.Assertion) Assertion {
			return Assertion{Database: a.GetDatabase(), Name: a.GetName(), SQL: a.GetSql(), Expect: a.GetExpect()}
		}),
	}
}

func toDrill(r Drill) *catalogpb.Drill {
	return &catalogpb.Drill{Snapshot: opaque(r.Snapshot), Job: opaque(r.Job), Fence: toFence(r.Fence), Agent: opaque(r.Agent), AgentName: r.AgentName,
		Verdict: r.Verdict, WithoutAmcheck: r.WithoutAmcheck, Whole: r.Whole, Ended: stamp(r.Ended), Received: stamp(r.Received)}
}

func fromDrill(d *decoder, r *catalogpb.Drill) Drill {
	return Drill{Snapshot: d.id("snapshot", r.GetSnapshot()), Job: d.id("job", r.GetJob()), Fence: fromFence(r.GetFence()),
		Agent: d.id("agent", r.GetAgent()), AgentName: r.GetAgentName(), Verdict: r.GetVerdict(), WithoutAmcheck: r.GetWithoutAmcheck(),
		Whole: r.GetWhole(), Ended: moment(r.GetEnded()), Received: moment(r.GetReceived())}
}

func toDrillReport(r DrillReport) *catalogpb.DrillReport {
	return &catalogpb.DrillReport{Statement: r.Statement, Signature: r.Signature, Certificate: r.Certificate}
}

func fromDrillReport(_ *decoder, r *catalogpb.DrillReport) DrillReport {
	return DrillReport{Statement: r.GetStatement(), Signature: r.GetSignature(), Certificate: r.GetCertificate()}
}
