package catalog

import (
	"github.com/tuskvault/tuskvault/controller/internal/catalog/catalogpb"
)

func toJob(j Job) *catalogpb.Job {
	p := &catalogpb.Job{
		Id: opaque(j.ID), Kind: catalogpb.JobKind(j.Kind), State: catalogpb.JobState(j.State), Instance: opaque(j.Instance),
		InstanceName: j.InstanceName, Agent: opaque(j.Agent), SnapshotId: opaque(j.SnapshotID), Created: stamp(j.Created),
		Started: stamp(j.Started), Ended: stamp(j.Ended), CreatedBy: j.CreatedBy, Message: j.Message, Attempts: j.Attempts,
		Current: toFence(j.Current), NextAttempt: stamp(j.NextAttempt), CancelRequested: j.CancelRequested,
		CancelReason: j.CancelReason, CancelBy: j.CancelBy, Incomplete: j.Incomplete, Result: toResult(j.Result),
		Doubt: j.Doubt, Ending: catalogpb.JobState(j.Ending),
	}
	switch {
	case j.Backup != nil:
		p.Work = &catalogpb.Job_Backup{Backup: toBackup(j.Backup)}
	case j.Restore != nil:
		p.Work = &catalogpb.Job_Restore{Restore: toRestore(j.Restore)}
	case j.Drill != nil:
		p.Work = &catalogpb.Job_Drill{Drill: toDrillSpec(j.Drill)}
	}
	return p
}

func fromJob(d *decoder, p *catalogpb.Job) Job {
	j := Job{
		ID: d.id("id", p.GetId()), Kind: JobKind(p.GetKind()), State: JobState(p.GetState()), Instance: d.id("instance", p.GetInstance()),
		InstanceName: p.GetInstanceName(), Agent: d.id("agent", p.GetAgent()), SnapshotID: d.id("snapshot_id", p.GetSnapshotId()),
		Created: moment(p.GetCreated()), Started: moment(p.GetStarted()), Ended: moment(p.GetEnded()), CreatedBy: p.GetCreatedBy(),
		Message: p.GetMessage(), Attempts: p.GetAttempts(), Current: fromFence(p.GetCurrent()), NextAttempt: moment(p.GetNextAttempt()),
		CancelRequested: p.GetCancelRequested(), CancelReason: p.GetCancelReason(), CancelBy: p.GetCancelBy(),
		Incomplete: p.GetIncomplete(), Result: fromResult(p.GetResult()),
		Doubt: p.GetDoubt(), Ending: JobState(p.GetEnding()),
	}
	if b := p.GetBackup(); b != nil {
		j.Backup = fromBackup(b)
	}
	if r := p.GetRestore(); r != nil {
		j.Restore = d.restore(r)
	}
	if s := p.GetDrill(); s != nil {
		j.Drill = d.drillSpec(s)
	}
	return j
}

func toBackup(b *BackupSpec) *catalogpb.BackupSpec {
	return &catalogpb.BackupSpec{Databases: b.Databases, Exclude: b.Exclude, Workers: b.Workers, LockWait: span(b.LockWait),
		AbortOnBlockedDdl: b.AbortOnBlockedDDL, BlockedPatience: span(b.BlockedPatience)}
}

func fromBackup(b *catalogpb.BackupSpec) *BackupSpec {
	return &BackupSpec{Databases: b.GetDatabases(), Exclude: b.GetExclude(), Workers: b.GetWorkers(), LockWait: b.GetLockWait().AsDuration(),
		AbortOnBlockedDDL: b.GetAbortOnBlockedDdl(), BlockedPatience: b.GetBlockedPatience().AsDuration()}
}

func toRestore(r *RestoreSpec) *catalogpb.RestoreSpec {
	return &catalogpb.RestoreSpec{
		Snapshot: opaque(r.Snapshot), Jobs: r.Jobs, Replace: r.Replace, DryRun: r.DryRun, NoOwner: r.NoOwner, Globals: r.Globals,
		ReadBack: r.ReadBack, NoAnalyze: r.NoAnalyze,
		Databases: each(r.Databases, func(m DatabaseMapping) *catalogpb.DatabaseMapping {
			return &catalogpb.DatabaseMapping{Source: m.Source, Target: m.Target}
		}),
		Schemas: r.Schemas, Tables: r.Tables, Sections: each(r.Sections, func(s Section) int32 { return int32(s) }),
		RoleMap: each(r.Roles, toNameMapping), TablespaceMap: each(r.Tablespaces, toNameMapping),
		Live: r.Live, LiveSchema: r.LiveSchema, SkipDamaged: r.SkipDamaged,
		OverwritePasswords: r.OverwritePasswords, GlobalsOnly: r.GlobalsOnly,
	}
}

func toNameMapping(m NameMapping) *catalogpb.NameMapping {
	return &catalogpb.NameMapping{Source: m.Source, Target: m.Target}
}

func fromNameMapping(m *catalogpb.NameMapping) NameMapping {
	return NameMapping{Source: m.GetSource(), Target: m.GetTarget()}
}

func (d *decoder) restore(r *catalogpb.RestoreSpec) *RestoreSpec {
	return &RestoreSpec{
		Snapshot: d.id("snapshot", r.GetSnapshot()), Jobs: r.GetJobs(), Replace: r.GetReplace(), DryRun: r.GetDryRun(),
		NoOwner: r.GetNoOwner(), Globals: r.GetGlobals(), ReadBack: r.GetReadBack(), NoAnalyze: r.GetNoAnalyze(),
		Databases: each(r.GetDatabases(), func(m *catalogpb.DatabaseMapping) DatabaseMapping {
			return DatabaseMapping{Source: m.GetSource(), Target: m.GetTarget()}
		}),
		Schemas: r.GetSchemas(), Tables: r.GetTables(), Sections: each(r.GetSections(), func(s int32) Section { return Section(s) }),
		Roles: each(r.GetRoleMap(), fromNameMapping), Tablespaces: each(r.GetTablespaceMap(), fromNameMapping),
		Live: r.GetLive(), LiveSchema: r.GetLiveSchema(), SkipDamaged: r.GetSkipDamaged(),
		OverwritePasswords: r.GetOverwritePasswords(), GlobalsOnly: r.GetGlobalsOnly(),
	}
}

func toAttempt(a Attempt) *catalogpb.Attempt {
	return &catalogpb.Attempt{
		Job: opaque(a.Job), Fence: toFence(a.Fence), Agent: opaque(a.Agent), AgentName: a.AgentName, State: catalogpb.AttemptState(a.State),
		Domain: opaque(a.Domain), SealEpoch: a.SealEpoch, Started: stamp(a.Started), Ended: stamp(a.Ended), Error: a.Error,
		ObjectHash: opaque(a.ObjectHash),
	}
}

func fromAttempt(d *decoder, a *catalogpb.Attempt) Attempt {
	return Attempt{
		Job: d.id("job", a.GetJob()), Fence: fromFence(a.GetFence()), Agent: d.id("agent", a.GetAgent()), AgentName: a.GetAgentName(),
		State: AttemptState(a.GetState()), Domain: d.domain("domain", a.GetDomain()), SealEpoch: a.GetSealEpoch(),
		Started: moment(a.GetStarted()), Ended: moment(a.GetEnded()), Error: a.GetError(), ObjectHash: d.hash("object_hash", a.GetObjectHash()),
	}
}

func toResult(r *Result) *catalogpb.Result {
	if r == nil {
		return nil
	}
	s := r.Stats
	return &catalogpb.Result{
		Fence: toFence(r.Fence), Outcome: catalogpb.Outcome(r.Outcome), Error: r.Error, Retryable: r.Retryable,
		Problems: each(r.Problems, func(p Problem) *catalogpb.Problem {
			return &catalogpb.Problem{Error: p.Error, Database: p.Database, Object: p.Object, Reason: p.Reason, Hint: p.Hint}
		}),
		Stats: &catalogpb.Stats{Rows: s.Rows, PlainBytes: s.PlainBytes, Chunks: s.Chunks, NewChunks: s.NewChunks,
			NewPlainBytes: s.NewPlainBytes, TransferredBytes: s.TransferredBytes, PeakMemoryBytes: s.PeakMemoryBytes},
		Databases: each(r.Databases, func(b DatabaseResult) *catalogpb.DatabaseResult {
			return &catalogpb.DatabaseResult{Database: b.Database, Target: b.Target, Complete: b.Complete, Error: b.Error, Tables: b.Tables,
				Rows: b.Rows, PlainBytes: b.PlainBytes, TablesVerified: b.TablesVerified, TablesCompared: b.TablesCompared, Duration: span(b.Duration)}
		}),
		Plan: r.Plan, Started: stamp(r.Started), Ended: stamp(r.Ended), DrillVerdict: r.DrillVerdict,
	}
}

func fromResult(r *catalogpb.Result) *Result {
	if r == nil {
		return nil
	}
	s := r.GetStats()
	return &Result{
		Fence: fromFence(r.GetFence()), Outcome: Outcome(r.GetOutcome()), Error: r.GetError(), Retryable: r.GetRetryable(),
		Problems: each(r.GetProblems(), func(p *catalogpb.Problem) Problem {
			return Problem{Error: p.GetError(), Database: p.GetDatabase(), Object: p.GetObject(), Reason: p.GetReason(), Hint: p.GetHint()}
		}),
		Stats: Stats{Rows: s.GetRows(), PlainBytes: s.GetPlainBytes(), Chunks: s.GetChunks(), NewChunks: s.GetNewChunks(),
			NewPlainBytes: s.GetNewPlainBytes(), TransferredBytes: s.GetTransferredBytes(), PeakMemoryBytes: s.GetPeakMemoryBytes()},
		Databases: each(r.GetDatabases(), func(b *catalogpb.DatabaseResult) DatabaseResult {
			return DatabaseResult{Database: b.GetDatabase(), Target: b.GetTarget(), Complete: b.GetComplete(), Error: b.GetError(), Tables: b.GetTables(),
				Rows: b.GetRows(), PlainBytes: b.GetPlainBytes(), TablesVerified: b.GetTablesVerified(), TablesCompared: b.GetTablesCompared(),
				Duration: b.GetDuration().AsDuration()}
		}),
		Plan: r.GetPlan(), Started: moment(r.GetStarted()), Ended: moment(r.GetEnded()), DrillVerdict: r.GetDrillVerdict(),
	}
}

func toLogLine(l LogLine) *catalogpb.LogLine {
	return &catalogpb.LogLine{Number: l.Number, Fence: toFence(l.Fence), Time: stamp(l.Time), Level: l.Level, Message: l.Message}
}

func fromLogLine(_ *decoder, l *catalogpb.LogLine) LogLine {
	return LogLine{Number: l.GetNumber(), Fence: fromFence(l.GetFence()), Time: moment(l.GetTime()), Level: l.GetLevel(), Message: l.GetMessage()}
}
