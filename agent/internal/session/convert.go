package session

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/internal/chunk"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	drillreport "github.com/tuskvault/tuskvault/internal/report"
	"github.com/tuskvault/tuskvault/internal/seal"
	"github.com/tuskvault/tuskvault/internal/version"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// Bounds of a result on the wire. What is beyond is counted in a last problem.
const (
	maxProblems   = 1000
	maxDatabases  = 10000
	maxPlan       = 10000
	maxText       = 1 << 10 // of a reason or an error, in bytes
	maxResultSize = 3 << 20
)

func refToWire(r job.Ref) *tuskvaultv1.AttemptRef {
	return &tuskvaultv1.AttemptRef{JobId: r.ID.String(), Epoch: r.Fence.Epoch, Counter: r.Fence.Counter}
}

func refsToWire(refs []job.Ref) []*tuskvaultv1.AttemptRef {
	var out []*tuskvaultv1.AttemptRef
	for _, r := range refs {
		out = append(out, refToWire(r))
	}
	return out
}

func refFromWire(m *tuskvaultv1.AttemptRef) (job.Ref, error) {
	id, err := repo.ParseID(m.GetJobId())
	if err != nil {
		return job.Ref{}, fmt.Errorf("attempt: %w", err)
	}
	if m.GetEpoch() == 0 {
		return job.Ref{}, fmt.Errorf("attempt of job %s: no epoch: %w", id, errs.Invalid)
	}
	return job.Ref{ID: id, Fence: repo.Fence{Epoch: m.GetEpoch(), Counter: m.GetCounter()}}, nil
}

func witnessToWire(w Witness) *tuskvaultv1.Witness {
	if w.Repository.IsZero() {
		return nil
	}
	return &tuskvaultv1.Witness{RepositoryId: w.Repository.String(), Epoch: w.Epoch, LogNumber: w.LogNumber, LogHash: w.LogHash[:],
		SeenTime: timestamppb.New(w.Seen)}
}

// witnessFromWire reads a witness; ok is false when there is none that makes sense.
func witnessFromWire(m *tuskvaultv1.Witness, now time.Time) (w Witness, ok bool) {
	id, err := repo.ParseID(m.GetRepositoryId())
	if err != nil || len(m.GetLogHash()) != len(w.LogHash) {
		return Witness{}, false
	}
	return Witness{Repository: id, Epoch: m.GetEpoch(), LogNumber: m.GetLogNumber(), LogHash: [32]byte(m.GetLogHash()), Seen: now}, true
}

func buildToWire(b version.Build) *tuskvaultv1.BuildInfo {
	return &tuskvaultv1.BuildInfo{Version: b.Version, Revision: b.Revision, Capability: b.Capability, Platform: b.Platform}
}

// jobFromWire reads an offer. An error is one of the offer, and Invalid.
func jobFromWire(m *tuskvaultv1.JobOffer) (job.Job, error) {
	ref, err := refFromWire(m.GetAttempt())
	if err != nil {
		return job.Job{}, err
	}
	j := job.Job{ID: ref.ID, Fence: ref.Fence}
	switch w := m.GetWork().(type) {
	case *tuskvaultv1.JobOffer_Backup:
		j.Backup = backupFromWire(w.Backup)
	case *tuskvaultv1.JobOffer_Restore:
		if j.Restore, err = restoreFromWire(w.Restore); err != nil {
			return j, fmt.Errorf("offer of %s: %w", ref, err)
		}
	case *tuskvaultv1.JobOffer_Drill:
		if j.Drill, err = drillFromWire(w.Drill); err != nil {
			return j, fmt.Errorf("offer of %s: %w", ref, err)
		}
	default:
		return j, nil // a kind of work that this agent has no words for
	}
	if j.Grant, err = grantFromWire(m.GetGrant(), j.Backup != nil); err != nil {
		return j, fmt.Errorf("offer of %s: %w", ref, err)
	}
	return j, nil
}

func backupFromWire(m *tuskvaultv1.BackupWork) *job.Backup {
	return &job.Backup{Instance: m.GetInstance(), Databases: m.GetDatabases(), Exclude: m.GetExcludeDatabases(), Workers: int(m.GetWorkers()),
		LockWait: m.GetLockWait().AsDuration(), Patience: m.GetBlockedDdlPatience().AsDuration(),
		AbortOnBlockedDDL: m.GetOnBlockedDdl() == tuskvaultv1.BlockedDdlAction_BLOCKED_DDL_ACTION_ABORT}
}

func restoreFromWire(m *tuskvaultv1.RestoreWork) (*job.Restore, error) {
	id, err := repo.ParseID(m.GetSnapshotId())
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	r := &job.Restore{Snapshot: id, Instance: m.GetInstance(), Jobs: int(m.GetJobs()), Replace: m.GetReplace(), DryRun: m.GetDryRun(),
		NoOwner: m.GetNoOwner(), Globals: m.GetGlobals(), ReadBack: m.GetReadBack(), NoAnalyze: m.GetNoAnalyze(),
		PastBytesPerSecond: max(m.GetPastBytesPerSecond(), 0), PastRestores: int(max(m.GetPastRestores(), 0))}
	for _, d := range m.GetDatabases() {
		r.Databases = append(r.Databases, job.Mapping{Source: d.GetSource(), Target: d.GetTarget()})
	}
	r.Schemas, r.Tables, r.Live, r.LiveSchema = m.GetSchemas(), m.GetTables(), m.GetLive(), m.GetLiveSchema()
	r.SkipDamaged, r.OverwritePasswords, r.GlobalsOnly = m.GetSkipDamaged(), m.GetOverwritePasswords(), m.GetGlobalsOnly()
	r.Roles, r.Tablespaces = mappingsFromWire(m.GetRoleMap()), mappingsFromWire(m.GetTablespaceMap())
	for _, s := range m.GetSections() {
		section, ok := sections[s]
		if !ok {
			return nil, fmt.Errorf("section %d: %w", s, errs.Unsupported)
		}
		r.Sections = append(r.Sections, section)
	}
	return r, nil
}

func drillFromWire(m *tuskvaultv1.DrillWork) (*job.Drill, error) {
	id, err := repo.ParseID(m.GetSnapshotId())
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	d := &job.Drill{Snapshot: id, Databases: m.GetDatabases(), Jobs: int(m.GetJobs()), Timeout: m.GetTimeout().AsDuration(), KeepGoing: m.GetKeepGoing()}
	if len(m.GetAssertions()) > drillreport.MaxAssertions {
		return nil, fmt.Errorf("%d assertions, at most %d are taken: %w", len(m.GetAssertions()), drillreport.MaxAssertions, errs.Invalid)
	}
	for _, a := range m.GetAssertions() {
		d.Assertions = append(d.Assertions, job.Assertion{Database: a.GetDatabase(), Name: a.GetName(), SQL: a.GetSql(), Expect: a.GetExpect()})
	}
	return d, nil
}

var sections = map[tuskvaultv1.RestoreSection]job.Section{
	tuskvaultv1.RestoreSection_RESTORE_SECTION_PRE_DATA:  job.PreData,
	tuskvaultv1.RestoreSection_RESTORE_SECTION_DATA:      job.Data,
	tuskvaultv1.RestoreSection_RESTORE_SECTION_POST_DATA: job.PostData,
}

func mappingsFromWire(all []*tuskvaultv1.NameMapping) []job.Mapping {
	var out []job.Mapping
	for _, m := range all {
		out = append(out, job.Mapping{Source: m.GetSource(), Target: m.GetTarget()})
	}
	return out
}

// grantFromWire reads keys. What is missing or of the wrong length is refused
// here, so that no executor ever works with a key of zeros.
func grantFromWire(m *tuskvaultv1.Grant, backup bool) (job.Grant, error) {
	var g job.Grant
	if len(m.GetDomainId()) != len(g.Domain) {
		return g, fmt.Errorf("grant: no domain: %w", errs.Invalid)
	}
	g.Domain = seal.DomainID(m.GetDomainId())
	keys := []struct {
		name string
		dst  *seal.Key
		src  []byte
		need bool
	}{{"name", &g.NameKey, m.GetNameKey(), true}, {"references", &g.RefsKey, m.GetRefsKey(), true}, {"cut", &g.CutKey, m.GetCutKey(), backup}}
	for _, k := range keys {
		if !k.need && len(k.src) == 0 {
			continue
		}
		if err := setKey(k.dst, k.src); err != nil {
			return job.Grant{}, fmt.Errorf("grant: %s key: %w", k.name, err)
		}
	}
	g.SealKeys = make(map[uint32]seal.Key, len(m.GetSealKeys()))
	for _, k := range m.GetSealKeys() {
		var key seal.Key
		if err := setKey(&key, k.GetKey()); err != nil {
			return job.Grant{}, fmt.Errorf("grant: seal key of epoch %d: %w", k.GetEpoch(), err)
		}
		g.SealKeys[k.GetEpoch()] = key
		g.NewestEpoch = max(g.NewestEpoch, k.GetEpoch())
	}
	if len(g.SealKeys) == 0 {
		return job.Grant{}, fmt.Errorf("grant: no seal key: %w", errs.Invalid)
	}
	g.Cut = chunk.Params{Target: int(m.GetCut().GetTarget()), Min: int(m.GetCut().GetMin()), Max: int(m.GetCut().GetMax())}
	if err := g.Cut.Validate(); err != nil {
		return job.Grant{}, fmt.Errorf("grant: %w", err)
	}
	return g, nil
}

// setKey copies a key of the right length.
func setKey(dst *seal.Key, src []byte) error {
	if len(src) != len(dst) || *(*[32]byte)(src) == [32]byte{} {
		return fmt.Errorf("not a key: %w", errs.Invalid)
	}
	copy(dst[:], src)
	return nil
}

func progressToWire(ref job.Ref, p job.Progress, at time.Time) *tuskvaultv1.JobProgress {
	m := &tuskvaultv1.JobProgress{Attempt: refToWire(ref), Phase: text(p.Phase), TransferredBytes: p.Transferred, Time: timestamppb.New(at)}
	p.Bound()
	for _, d := range p.Databases[:min(len(p.Databases), maxDatabases)] {
		m.Databases = append(m.Databases, &tuskvaultv1.DatabaseProgress{Database: text(d.Database), Phase: d.Phase, RowsDone: d.Rows, BytesDone: d.Bytes,
			BytesTotal: d.BytesTotal, TablesDone: int32(d.TablesDone), TablesTotal: int32(d.TablesTotal), Tables: tablesToWire(d.Tables),
			IndexBuildsDone: int32(d.IndexesDone), IndexBuildsTotal: int32(d.IndexesTotal)})
	}
	for _, b := range p.Blocked[:min(len(p.Blocked), maxProblems)] {
		m.Blocked = append(m.Blocked, text(b))
	}
	return m
}

func tablesToWire(tables []job.TableProgress) []*tuskvaultv1.TableProgress {
	var out []*tuskvaultv1.TableProgress
	for _, t := range tables {
		out = append(out, &tuskvaultv1.TableProgress{Table: text(t.Table), Phase: t.Phase, RowsDone: t.Rows, RowsTotal: t.RowsTotal,
			BytesDone: t.Bytes, BytesTotal: t.BytesTotal, Estimated: t.Estimated})
	}
	return out
}

func lineToWire(ref job.Ref, l line) *tuskvaultv1.JobLog {
	return &tuskvaultv1.JobLog{Attempt: refToWire(ref), Time: timestamppb.New(l.at), Level: l.level, Message: strings.ToValidUTF8(l.message, "?")}
}

// outcomes on the wire.
var outcomes = map[job.Outcome]tuskvaultv1.Outcome{
	job.Succeeded: tuskvaultv1.Outcome_OUTCOME_SUCCEEDED,
	job.Failed:    tuskvaultv1.Outcome_OUTCOME_FAILED,
	job.Canceled:  tuskvaultv1.Outcome_OUTCOME_CANCELED,
}

// resultToWire converts a result and makes it fit into a message.
func resultToWire(ref job.Ref, r job.Result) *tuskvaultv1.JobResult {
	s := r.Stats
	m := &tuskvaultv1.JobResult{Attempt: refToWire(ref), Outcome: outcomes[r.Outcome], Error: text(r.Err), Retryable: r.Retryable,
		Stats: &tuskvaultv1.JobStats{Rows: s.Rows, PlainBytes: s.PlainBytes, Chunks: s.Chunks, NewChunks: s.NewChunks,
			NewPlainBytes: s.NewPlainBytes, TransferredBytes: s.TransferredBytes, PeakMemoryBytes: s.PeakMemoryBytes},
		StartTime: timestamppb.New(r.Started), EndTime: timestamppb.New(r.Ended)}
	for _, p := range r.Problems {
		severity := tuskvaultv1.Severity_SEVERITY_ERROR
		if p.Severity == "warning" {
			severity = tuskvaultv1.Severity_SEVERITY_WARNING
		}
		m.Problems = append(m.Problems, &tuskvaultv1.Problem{Severity: severity, Database: text(p.Database.Display()), Object: text(p.Object),
			Reason: text(p.Reason), Hint: text(p.Hint)})
	}
	for _, d := range r.Databases {
		m.Databases = append(m.Databases, &tuskvaultv1.DatabaseResult{Database: text(d.Database), Target: text(d.Target), Complete: d.Complete,
			Error: text(d.Err), Tables: d.Tables, Rows: d.Rows, PlainBytes: d.PlainBytes, TablesVerified: d.TablesVerified,
			TablesCompared: d.TablesCompared, Duration: durationpb.New(d.Duration)})
	}
	for _, l := range r.Plan {
		m.Plan = append(m.Plan, text(l))
	}
	if s := r.Drill; s != nil {
		m.Drill = &tuskvaultv1.DrillReport{Statement: s.Statement, Signature: s.Signature, Certificate: s.Certificate}
	}
	fit(m)
	return m
}

// fit shortens the lists of a result until it can be sent, and says so in the last problem.
func fit(m *tuskvaultv1.JobResult) {
	problems, databases, plan := len(m.Problems), len(m.Databases), len(m.Plan)
	m.Problems = m.Problems[:min(problems, maxProblems-1)]
	m.Databases = m.Databases[:min(databases, maxDatabases)]
	m.Plan = m.Plan[:min(plan, maxPlan)]
	for proto.Size(m) > maxResultSize && len(m.Problems)+len(m.Databases)+len(m.Plan) > 0 {
		m.Plan, m.Problems = m.Plan[:len(m.Plan)/2], m.Problems[:len(m.Problems)*3/4]
		m.Databases = m.Databases[:len(m.Databases)*7/8]
	}
	if p, d, l := problems-len(m.Problems), databases-len(m.Databases), plan-len(m.Plan); p+d+l > 0 {
		m.Problems = append(m.Problems, &tuskvaultv1.Problem{Severity: tuskvaultv1.Severity_SEVERITY_WARNING,
			Reason: fmt.Sprintf("the report was too long: %d problems, %d databases and %d lines of the plan are left out", p, d, l)})
	}
}

// text gives a text that fits a field: valid UTF-8 of at most maxText bytes.
func text(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "?")
}
