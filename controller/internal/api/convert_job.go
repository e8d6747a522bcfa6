package api

import (
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// toJobState gives a state in the wire's words. A committed job still awaits
// its agent's closing report, which people see as committing.
func toJobState(s catalog.JobState) tuskvaultv1.JobState {
	switch s {
	case catalog.JobQueued:
		return tuskvaultv1.JobState_JOB_STATE_QUEUED
	case catalog.JobLeased:
		return tuskvaultv1.JobState_JOB_STATE_LEASED
	case catalog.JobRunning:
		return tuskvaultv1.JobState_JOB_STATE_RUNNING
	case catalog.JobCommitting, catalog.JobCommitted:
		return tuskvaultv1.JobState_JOB_STATE_COMMITTING
	case catalog.JobSucceeded:
		return tuskvaultv1.JobState_JOB_STATE_SUCCEEDED
	case catalog.JobFailed:
		return tuskvaultv1.JobState_JOB_STATE_FAILED
	case catalog.JobCanceled:
		return tuskvaultv1.JobState_JOB_STATE_CANCELED
	case catalog.JobLost:
		return tuskvaultv1.JobState_JOB_STATE_LOST
	}
	return tuskvaultv1.JobState_JOB_STATE_UNSPECIFIED
}

// fromJobStates gives every stored state that one of the wire's states covers.
func fromJobStates(states []tuskvaultv1.JobState) ([]catalog.JobState, error) {
	if len(states) > 32 {
		return nil, field("states", "%d entries, there are 8 states", len(states))
	}
	var out []catalog.JobState
	for _, want := range states {
		found := false
		for _, s := range catalog.JobStates() {
			if toJobState(s) == want && want != tuskvaultv1.JobState_JOB_STATE_UNSPECIFIED {
				out, found = append(out, s), true
			}
		}
		if !found {
			return nil, field("states", "%d is no state", want)
		}
	}
	return out, nil
}

func toJobKind(k catalog.JobKind) tuskvaultv1.JobKind {
	switch k {
	case catalog.JobBackup:
		return tuskvaultv1.JobKind_JOB_KIND_BACKUP
	case catalog.JobRestore:
		return tuskvaultv1.JobKind_JOB_KIND_RESTORE
	case catalog.JobDrill:
		return tuskvaultv1.JobKind_JOB_KIND_DRILL
	}
	return tuskvaultv1.JobKind_JOB_KIND_UNSPECIFIED
}

// toJob gives a job without attempts and progress.
func toJob(j catalog.Job) *tuskvaultv1.Job {
	out := &tuskvaultv1.Job{Id: j.ID.String(), Kind: toJobKind(j.Kind), State: toJobState(j.State), Instance: j.InstanceName,
		SnapshotId: toID(j.SnapshotID), CreateTime: toTime(j.Created), StartTime: toTime(j.Started), EndTime: toTime(j.Ended),
		CreatedBy: j.CreatedBy, Message: j.Message, NextAttemptTime: toTime(j.NextAttempt), DryRun: j.DryRun(),
		CancelRequested: j.CancelRequested}
	if j.State != catalog.JobQueued {
		out.NextAttemptTime = nil
	}
	if j.Result != nil {
		out.Result = toResult(job.Ref{Job: j.ID, Fence: j.Result.Fence}, *j.Result)
	}
	if j.Backup != nil {
		out.Backup = toBackupWork(j.InstanceName, *j.Backup)
	}
	if j.Restore != nil {
		out.Restore = toRestoreWork(j.InstanceName, *j.Restore)
	}
	if j.Drill != nil {
		out.Drill = toDrillWork(*j.Drill)
	}
	return out
}

// toView gives a job with attempts and progress.
func toView(v job.View) *tuskvaultv1.Job {
	out := toJob(v.Job)
	for _, a := range v.Attempts {
		out.Attempts = append(out.Attempts, &tuskvaultv1.Attempt{Ref: toRef(job.Ref{Job: a.Job, Fence: a.Fence}), Agent: a.AgentName,
			State: a.State.String(), StartTime: toTime(a.Started), EndTime: toTime(a.Ended), Error: a.Error})
	}
	if v.Progress != nil {
		out.Progress = toProgress(job.Ref{Job: v.Job.ID, Fence: v.Job.Current}, *v.Progress)
	}
	return out
}

// toBackupWork names the instance as the reader knows it: by its name within
// the agent for an agent, by its full name for people.
func toBackupWork(instance string, b catalog.BackupSpec) *tuskvaultv1.BackupWork {
	out := &tuskvaultv1.BackupWork{Instance: instance, Databases: b.Databases, ExcludeDatabases: b.Exclude, Workers: b.Workers,
		LockWait: toDuration(b.LockWait), OnBlockedDdl: tuskvaultv1.BlockedDdlAction_BLOCKED_DDL_ACTION_WAIT, BlockedDdlPatience: toDuration(b.BlockedPatience)}
	if b.AbortOnBlockedDDL {
		out.OnBlockedDdl = tuskvaultv1.BlockedDdlAction_BLOCKED_DDL_ACTION_ABORT
	}
	return out
}

func toRestoreWork(instance string, r catalog.RestoreSpec) *tuskvaultv1.RestoreWork {
	out := &tuskvaultv1.RestoreWork{SnapshotId: r.Snapshot.String(), Instance: instance, Jobs: r.Jobs, Replace: r.Replace,
		DryRun: r.DryRun, NoOwner: r.NoOwner, Globals: r.Globals, ReadBack: r.ReadBack, NoAnalyze: r.NoAnalyze}
	for _, m := range r.Databases {
		out.Databases = append(out.Databases, &tuskvaultv1.DatabaseMapping{Source: m.Source, Target: m.Target})
	}
	out.Schemas, out.Tables = r.Schemas, r.Tables
	for _, s := range r.Sections {
		out.Sections = append(out.Sections, tuskvaultv1.RestoreSection(s))
	}
	out.RoleMap, out.TablespaceMap = toNameMappings(r.Roles), toNameMappings(r.Tablespaces)
	out.Live, out.LiveSchema, out.SkipDamaged = r.Live, r.LiveSchema, r.SkipDamaged
	out.OverwritePasswords, out.GlobalsOnly = r.OverwritePasswords, r.GlobalsOnly
	return out
}

func toNameMappings(all []catalog.NameMapping) []*tuskvaultv1.NameMapping {
	var out []*tuskvaultv1.NameMapping
	for _, m := range all {
		out = append(out, &tuskvaultv1.NameMapping{Source: m.Source, Target: m.Target})
	}
	return out
}

func toProgress(ref job.Ref, p job.Progress) *tuskvaultv1.JobProgress {
	out := &tuskvaultv1.JobProgress{Attempt: toRef(ref), Phase: p.Phase, TransferredBytes: p.TransferredBytes, Blocked: p.Blocked, Time: toTime(p.Time),
		BytesPerSecond: p.BytesPerSecond, SecondsLeft: p.SecondsLeft}
	for _, d := range p.Databases {
		out.Databases = append(out.Databases, &tuskvaultv1.DatabaseProgress{Database: d.Database, Phase: d.Phase, RowsDone: d.RowsDone,
			BytesDone: d.BytesDone, BytesTotal: d.BytesTotal, TablesDone: d.TablesDone, TablesTotal: d.TablesTotal, Tables: toTables(d.Tables),
			IndexBuildsDone: d.IndexesDone, IndexBuildsTotal: d.IndexesTotal})
	}
	return out
}

func toTables(tables []job.TableProgress) []*tuskvaultv1.TableProgress {
	var out []*tuskvaultv1.TableProgress
	for _, t := range tables {
		out = append(out, &tuskvaultv1.TableProgress{Table: t.Table, Phase: t.Phase, RowsDone: t.RowsDone, RowsTotal: t.RowsTotal,
			BytesDone: t.BytesDone, BytesTotal: t.BytesTotal, Estimated: t.Estimated})
	}
	return out
}

func fromProgress(p *tuskvaultv1.JobProgress) job.Progress {
	out := job.Progress{Phase: p.GetPhase(), TransferredBytes: p.GetTransferredBytes(), Blocked: p.GetBlocked(), Time: fromTime(p.GetTime())}
	for _, d := range p.GetDatabases() {
		out.Databases = append(out.Databases, job.DatabaseProgress{Database: d.GetDatabase(), Phase: d.GetPhase(), RowsDone: d.GetRowsDone(),
			BytesDone: d.GetBytesDone(), BytesTotal: d.GetBytesTotal(), TablesDone: d.GetTablesDone(), TablesTotal: d.GetTablesTotal(), Tables: fromTables(d.GetTables()),
			IndexesDone: d.GetIndexBuildsDone(), IndexesTotal: d.GetIndexBuildsTotal()})
	}
	return out
}

func fromTables(tables []*tuskvaultv1.TableProgress) []job.TableProgress {
	var out []job.TableProgress
	for _, t := range tables {
		out = append(out, job.TableProgress{Table: t.GetTable(), Phase: t.GetPhase(), RowsDone: t.GetRowsDone(), RowsTotal: t.GetRowsTotal(),
			BytesDone: t.GetBytesDone(), BytesTotal: t.GetBytesTotal(), Estimated: t.GetEstimated()})
	}
	return out
}

func toResult(ref job.Ref, r catalog.Result) *tuskvaultv1.JobResult {
	s := r.Stats
	out := &tuskvaultv1.JobResult{Attempt: toRef(ref), Outcome: toOutcome(r.Outcome), Error: r.Error, Retryable: r.Retryable,
		Problems: toProblems(r.Problems), Plan: r.Plan, StartTime: toTime(r.Started), EndTime: toTime(r.Ended),
		Stats: &tuskvaultv1.JobStats{Rows: s.Rows, PlainBytes: s.PlainBytes, Chunks: s.Chunks, NewChunks: s.NewChunks,
			NewPlainBytes: s.NewPlainBytes, TransferredBytes: s.TransferredBytes, PeakMemoryBytes: s.PeakMemoryBytes}}
	if r.DrillVerdict != "" {
		out.Drill = &tuskvaultv1.DrillReport{JobId: ref.Job.String(), Verdict: r.DrillVerdict}
	}
	for _, d := range r.Databases {
		out.Databases = append(out.Databases, &tuskvaultv1.DatabaseResult{Database: d.Database, Target: d.Target, Complete: d.Complete, Error: d.Error,
			Tables: d.Tables, Rows: d.Rows, PlainBytes: d.PlainBytes, TablesVerified: d.TablesVerified, TablesCompared: d.TablesCompared,
			Duration: durationpb.New(d.Duration)})
	}
	return out
}

func toOutcome(o catalog.Outcome) tuskvaultv1.Outcome {
	switch o {
	case catalog.OutcomeSucceeded:
		return tuskvaultv1.Outcome_OUTCOME_SUCCEEDED
	case catalog.OutcomeFailed:
		return tuskvaultv1.Outcome_OUTCOME_FAILED
	case catalog.OutcomeCanceled:
		return tuskvaultv1.Outcome_OUTCOME_CANCELED
	}
	return tuskvaultv1.Outcome_OUTCOME_UNSPECIFIED
}

func fromOutcome(o tuskvaultv1.Outcome) (catalog.Outcome, error) {
	switch o {
	case tuskvaultv1.Outcome_OUTCOME_SUCCEEDED:
		return catalog.OutcomeSucceeded, nil
	case tuskvaultv1.Outcome_OUTCOME_FAILED:
		return catalog.OutcomeFailed, nil
	case tuskvaultv1.Outcome_OUTCOME_CANCELED:
		return catalog.OutcomeCanceled, nil
	}
	return 0, fmt.Errorf("result: outcome %d: %w", o, errs.Invalid)
}

func fromResult(r *tuskvaultv1.JobResult) (catalog.Result, error) {
	outcome, err := fromOutcome(r.GetOutcome())
	if err != nil {
		return catalog.Result{}, err
	}
	problems, err := fromProblems(r.GetProblems())
	if err != nil {
		return catalog.Result{}, err
	}
	s := r.GetStats()
	out := catalog.Result{Outcome: outcome, Error: r.GetError(), Retryable: r.GetRetryable(), Problems: problems, Plan: r.GetPlan(),
		Started: fromTime(r.GetStartTime()), Ended: fromTime(r.GetEndTime()),
		Stats: catalog.Stats{Rows: s.GetRows(), PlainBytes: s.GetPlainBytes(), Chunks: s.GetChunks(), NewChunks: s.GetNewChunks(),
			NewPlainBytes: s.GetNewPlainBytes(), TransferredBytes: s.GetTransferredBytes(), PeakMemoryBytes: s.GetPeakMemoryBytes()}}
	for _, d := range r.GetDatabases() {
		out.Databases = append(out.Databases, catalog.DatabaseResult{Database: d.GetDatabase(), Target: d.GetTarget(), Complete: d.GetComplete(), Error: d.GetError(),
			Tables: d.GetTables(), Rows: d.GetRows(), PlainBytes: d.GetPlainBytes(), TablesVerified: d.GetTablesVerified(), TablesCompared: d.GetTablesCompared(),
			Duration: fromDuration(d.GetDuration())})
	}
	return out, nil
}

func toLogLine(id job.Ref, l catalog.LogLine) *tuskvaultv1.JobLog {
	return &tuskvaultv1.JobLog{Attempt: toRef(id), Time: toTime(l.Time), Level: l.Level, Message: l.Message}
}
