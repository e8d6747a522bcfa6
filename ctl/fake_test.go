package ctl_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/rpc"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// fake is a controller that keeps a small fleet in memory.
type fake struct {
	tuskvaultv1.UnimplementedEnrollmentServiceServer
	tuskvaultv1.UnimplementedEventServiceServer
	tuskvaultv1.UnimplementedFleetServiceServer
	tuskvaultv1.UnimplementedJobServiceServer
	tuskvaultv1.UnimplementedKeyServiceServer
	tuskvaultv1.UnimplementedSnapshotServiceServer
	tuskvaultv1.UnimplementedStatusServiceServer
	tuskvaultv1.UnimplementedRepositoryServiceServer

	now    time.Time
	issuer *pki.Issuer

	mu      sync.Mutex
	jobs    map[string]*tuskvaultv1.Job
	renewed int
	watched int // calls of Watch
	check   *tuskvaultv1.Check
	prune   *tuskvaultv1.Prune
	master  uint64 // changes of the master key
}

const (
	agentID    = "a1000000000000000000000000000000"
	instanceID = "b1000000000000000000000000000000"
	snapshotA  = "c1000000000000000000000000000000"
	snapshotB  = "c2000000000000000000000000000000"
)

func (f *fake) server(config *tls.Config) *grpc.Server {
	s := rpc.NewServer(rpc.ServerOptions{TLS: config, Log: zap.NewNop(), Authorize: func(ctx context.Context, _ string) error {
		if p, _ := rpc.PeerFrom(ctx); p.Operator != "admin" {
			return fmt.Errorf("operator %q: not known: %w", p.Operator, errs.Unauthenticated)
		}
		return nil
	}})
	tuskvaultv1.RegisterEnrollmentServiceServer(s, f)
	tuskvaultv1.RegisterEventServiceServer(s, f)
	tuskvaultv1.RegisterFleetServiceServer(s, f)
	tuskvaultv1.RegisterJobServiceServer(s, f)
	tuskvaultv1.RegisterKeyServiceServer(s, f)
	tuskvaultv1.RegisterSnapshotServiceServer(s, f)
	tuskvaultv1.RegisterStatusServiceServer(s, f)
	tuskvaultv1.RegisterRepositoryServiceServer(s, f)
	return s
}

// Renew renews the certificates of operators, but not those that end within five minutes.
func (f *fake) Renew(ctx context.Context, r *tuskvaultv1.RenewRequest) (*tuskvaultv1.RenewResponse, error) {
	p, _ := rpc.PeerFrom(ctx)
	if p.NotAfter.Before(f.now.Add(5 * time.Minute)) {
		return nil, fmt.Errorf("renew certificate: operator %s: its certificate was revoked: %w", p.Operator, errs.Denied)
	}
	chain, err := f.issuer.IssueOperator(r.GetCsr(), p.Operator, time.Now(), pki.LeafLife)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewed++
	return &tuskvaultv1.RenewResponse{CertificateChain: chain.Certificates, ExpireTime: timestamppb.New(chain.Leaf.NotAfter)}, nil
}

func (f *fake) ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(f.now.Add(-d)) }

func (f *fake) GetStatus(context.Context, *tuskvaultv1.GetStatusRequest) (*tuskvaultv1.GetStatusResponse, error) {
	return &tuskvaultv1.GetStatusResponse{Name: "backup1", Build: &tuskvaultv1.BuildInfo{Version: "0.1.0"}, StartTime: f.ago(3 * time.Hour),
		RepositoryId: "d1000000000000000000000000000000", Store: "file:///var/backups/tuskvault", Epoch: 1, AgentsOnline: 1, Instances: 2, InstancesUnprotected: 1,
		Snapshots: 2, StoredBytes: 3 << 20, PlainBytes: 5 << 30, JobsFailedRecently: 1, CatalogExportLag: durationpb.New(time.Second),
		Copies: fakeCopies(),
		RepositoryHealth: &tuskvaultv1.RepositoryHealth{CheckState: "clean", CheckTime: f.ago(2 * time.Hour), ScrubCompleteTime: f.ago(49 * time.Hour), ScrubStartTime: f.ago(time.Hour), ScrubPacks: 12, ScrubBytes: 700 << 20,
			CondemnedBytes: 3 << 30, CondemnedTime: f.ago(5 * time.Hour)},
		Notices: []*tuskvaultv1.StatusNotice{{Severity: tuskvaultv1.Severity_SEVERITY_WARNING, Message: "db2/main has no complete snapshot", Hint: "tuskctl backup db2/main"}}}, nil
}

func (f *fake) agents() []*tuskvaultv1.Agent {
	return []*tuskvaultv1.Agent{{Id: agentID, Name: "db1", State: tuskvaultv1.AgentState_AGENT_STATE_ONLINE, LastSeenTime: f.ago(5 * time.Second), Instances: 1,
		Build: &tuskvaultv1.BuildInfo{Version: "0.1.0"}, Labels: &tuskvaultv1.Labels{Values: map[string]string{"env": "prod"}}}}
}

func (f *fake) ListAgents(context.Context, *tuskvaultv1.ListAgentsRequest) (*tuskvaultv1.ListAgentsResponse, error) {
	return &tuskvaultv1.ListAgentsResponse{Agents: f.agents(), Page: &tuskvaultv1.PageResponse{}}, nil
}

func (f *fake) GetAgent(_ context.Context, r *tuskvaultv1.GetAgentRequest) (*tuskvaultv1.GetAgentResponse, error) {
	if r.GetAgent() != "db1" {
		return nil, fmt.Errorf("agent %q: %w", r.GetAgent(), errs.NotFound)
	}
	return &tuskvaultv1.GetAgentResponse{Agent: f.agents()[0]}, nil
}

func (f *fake) RevokeAgent(context.Context, *tuskvaultv1.RevokeAgentRequest) (*tuskvaultv1.RevokeAgentResponse, error) {
	return &tuskvaultv1.RevokeAgentResponse{}, nil
}

func (f *fake) SetAgentLabels(_ context.Context, r *tuskvaultv1.SetAgentLabelsRequest) (*tuskvaultv1.SetAgentLabelsResponse, error) {
	a := f.agents()[0]
	for k, v := range r.GetSet().GetValues() {
		a.Labels.Values[k] = v
	}
	for _, k := range r.GetRemove() {
		delete(a.GetLabels().GetValues(), k)
	}
	return &tuskvaultv1.SetAgentLabelsResponse{Agent: a}, nil
}

func (f *fake) CreateToken(_ context.Context, r *tuskvaultv1.CreateTokenRequest) (*tuskvaultv1.CreateTokenResponse, error) {
	return &tuskvaultv1.CreateTokenResponse{Secret: "tv1.0123456789ab.secret.root",
		Token: &tuskvaultv1.JoinToken{Id: "0123456789ab", Name: r.GetName(), Labels: r.GetLabels(), ExpireTime: timestamppb.New(f.now.Add(r.GetTtl().AsDuration()))}}, nil
}

func (f *fake) ListTokens(context.Context, *tuskvaultv1.ListTokensRequest) (*tuskvaultv1.ListTokensResponse, error) {
	return &tuskvaultv1.ListTokensResponse{}, nil
}

// ListInstances gives one instance a page, so that paging is seen to work.
func (f *fake) ListInstances(_ context.Context, r *tuskvaultv1.ListInstancesRequest) (*tuskvaultv1.ListInstancesResponse, error) {
	if r.GetSelector() == "env=none" {
		return &tuskvaultv1.ListInstancesResponse{}, nil
	}
	one := &tuskvaultv1.Instance{Id: instanceID, Name: "db1/main", Agent: "db1", AgentOnline: true, LastSnapshotId: snapshotB, LastSnapshotTime: f.ago(time.Hour),
		Inventory: &tuskvaultv1.InstanceInventory{Name: "main", Reachable: true, ServerVersionNum: 150018, Databases: []*tuskvaultv1.DatabaseInventory{{Name: "shop", SizeBytes: 3 << 30}, {Name: "secret", SizeBytes: -1}}}}
	if r.GetPage().GetToken() == "" {
		return &tuskvaultv1.ListInstancesResponse{Instances: []*tuskvaultv1.Instance{one}, Page: &tuskvaultv1.PageResponse{NextToken: "2"}}, nil
	}
	two := &tuskvaultv1.Instance{Id: "b2", Name: "db2/main", Agent: "db2"}
	return &tuskvaultv1.ListInstancesResponse{Instances: []*tuskvaultv1.Instance{two}, Page: &tuskvaultv1.PageResponse{}}, nil
}

func (f *fake) ListSnapshots(context.Context, *tuskvaultv1.ListSnapshotsRequest) (*tuskvaultv1.ListSnapshotsResponse, error) {
	return &tuskvaultv1.ListSnapshotsResponse{Snapshots: []*tuskvaultv1.Snapshot{
		{Id: snapshotB, Instance: "db1/main", Kind: "logical", CommitTime: f.ago(time.Hour), Complete: true, Databases: 2, Rows: 1234567, PlainBytes: 5 << 30, StoredBytes: 1 << 20,
			VerifyTime: f.ago(30 * time.Minute), LastDrillVerdict: "passed"},
		{Id: snapshotA, Instance: "db1/main", Kind: "logical", CommitTime: f.ago(26 * time.Hour), Databases: 1},
	}}, nil
}

func (f *fake) GetSnapshot(_ context.Context, r *tuskvaultv1.GetSnapshotRequest) (*tuskvaultv1.GetSnapshotResponse, error) {
	if strings.HasPrefix(snapshotA, r.GetSnapshot()) && strings.HasPrefix(snapshotB, r.GetSnapshot()) {
		return nil, fmt.Errorf("snapshot %q: matches 2: %s, %s: %w", r.GetSnapshot(), snapshotA[:8], snapshotB[:8], errs.Conflict)
	}
	if r.GetSnapshot() == "c2bad" {
		return nil, fmt.Errorf("snapshot c2bad: content part: %w", errs.Corrupt)
	}
	if !strings.HasPrefix(snapshotB, r.GetSnapshot()) {
		return nil, fmt.Errorf("snapshot %q: %w", r.GetSnapshot(), errs.NotFound)
	}
	return &tuskvaultv1.GetSnapshotResponse{Snapshot: &tuskvaultv1.Snapshot{Id: snapshotB, Complete: true}, Databases: []*tuskvaultv1.SnapshotDatabase{{Name: "shop", State: "complete", Tables: 7, Lsn: 0x16B374D848}}}, nil
}

// start makes a job whose instance says how it will end.
func (f *fake) start(id, instance string, kind tuskvaultv1.JobKind) *tuskvaultv1.Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	j := &tuskvaultv1.Job{Id: id, Kind: kind, Instance: instance, State: tuskvaultv1.JobState_JOB_STATE_QUEUED, CreateTime: timestamppb.New(f.now), CreatedBy: "operator/admin"}
	f.jobs[id] = j
	return j
}

func (f *fake) StartBackup(_ context.Context, r *tuskvaultv1.StartBackupRequest) (*tuskvaultv1.StartBackupResponse, error) {
	if r.GetInstance() == "nothere" {
		return nil, fmt.Errorf("instance %q: %w", r.GetInstance(), errs.NotFound)
	}
	j := f.start(r.GetRequestId(), r.GetInstance(), tuskvaultv1.JobKind_JOB_KIND_BACKUP)
	j.SnapshotId = j.GetId()
	return &tuskvaultv1.StartBackupResponse{Job: j}, nil
}

func (f *fake) StartRestore(_ context.Context, r *tuskvaultv1.StartRestoreRequest) (*tuskvaultv1.StartRestoreResponse, error) {
	j := f.start(r.GetRequestId(), r.GetTargetInstance(), tuskvaultv1.JobKind_JOB_KIND_RESTORE)
	j.DryRun, j.SnapshotId = r.GetDryRun(), snapshotB
	j.Restore = &tuskvaultv1.RestoreWork{Databases: r.GetDatabases(), Replace: r.GetReplace(), Schemas: r.GetSchemas(), Tables: r.GetTables(), Sections: r.GetSections(),
		RoleMap: r.GetRoleMap(), TablespaceMap: r.GetTablespaceMap(), Live: r.GetLive(), LiveSchema: r.GetLiveSchema(), SkipDamaged: r.GetSkipDamaged()}
	out := &tuskvaultv1.StartRestoreResponse{Job: j}
	if r.GetSnapshot() == "c1" {
		out.Warnings = []string{"snapshot c1000000 was forgotten by operator/admin"}
	}
	return out, nil
}

func (f *fake) find(prefix string) (*tuskvaultv1.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, j := range f.jobs {
		if strings.HasPrefix(id, prefix) {
			return proto.CloneOf(j), nil
		}
	}
	return nil, fmt.Errorf("job %q: %w", prefix, errs.NotFound)
}

func (f *fake) GetJob(_ context.Context, r *tuskvaultv1.GetJobRequest) (*tuskvaultv1.GetJobResponse, error) {
	j, err := f.find(r.GetJob())
	return &tuskvaultv1.GetJobResponse{Job: j}, err
}

func (f *fake) ListJobs(context.Context, *tuskvaultv1.ListJobsRequest) (*tuskvaultv1.ListJobsResponse, error) {
	return &tuskvaultv1.ListJobsResponse{}, nil
}

func (f *fake) CancelJob(_ context.Context, r *tuskvaultv1.CancelJobRequest) (*tuskvaultv1.CancelJobResponse, error) {
	return nil, fmt.Errorf("cancel job %s: it has ended: %w", r.GetJob(), errs.Conflict)
}

// Watch gives three events. To who follows, the first stream breaks after two
// and the next one goes on after a gap, until the caller was too slow.
func (f *fake) Watch(r *tuskvaultv1.WatchRequest, s grpc.ServerStreamingServer[tuskvaultv1.WatchResponse]) error {
	at := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	events := []*tuskvaultv1.Event{
		{Sequence: 101, Time: at, Kind: tuskvaultv1.EventKind_EVENT_KIND_AGENT_ONLINE, Agent: "db1", Message: "from 10.0.0.1"},
		{Sequence: 102, Time: at, Kind: tuskvaultv1.EventKind_EVENT_KIND_JOB_FAILED, Agent: "db1", Instance: "db1/main", JobId: snapshotA, JobKind: tuskvaultv1.JobKind_JOB_KIND_BACKUP, Message: "disk full"},
		{Sequence: 102, Time: at, Kind: tuskvaultv1.EventKind_EVENT_KIND_JOB_PROGRESS, Agent: "db1", Instance: "db1/main", JobId: snapshotA, JobKind: tuskvaultv1.JobKind_JOB_KIND_BACKUP,
			Progress: &tuskvaultv1.JobProgress{Phase: "reading", BytesPerSecond: 1 << 20, SecondsLeft: 90, Databases: []*tuskvaultv1.DatabaseProgress{{Database: "shop", BytesDone: 5 << 20, TablesTotal: 3,
				Tables: []*tuskvaultv1.TableProgress{{Table: "public.orders", Phase: "copying", BytesDone: 30, BytesTotal: 100}}}}}},
	}
	send := func(m *tuskvaultv1.WatchResponse) { _ = s.Send(m) }
	if r.GetSelector() == "env=none" {
		return nil
	}
	if !r.GetFollow() {
		for _, e := range events[:2] {
			if len(r.GetKinds()) == 0 || slices.Contains(r.GetKinds(), e.GetKind()) {
				send(&tuskvaultv1.WatchResponse{Message: &tuskvaultv1.WatchResponse_Event{Event: e}})
			}
		}
		return nil
	}
	f.mu.Lock()
	f.watched++
	n := f.watched
	f.mu.Unlock()
	send(&tuskvaultv1.WatchResponse{Message: &tuskvaultv1.WatchResponse_Start{Start: &tuskvaultv1.EventStart{After: 100}}})
	if n == 1 {
		send(&tuskvaultv1.WatchResponse{Message: &tuskvaultv1.WatchResponse_Event{Event: events[0]}})
		return fmt.Errorf("restarting: %w", errs.Unavailable)
	}
	if r.GetAfter() != 101 {
		return fmt.Errorf("after %d, want 101: %w", r.GetAfter(), errs.Invalid)
	}
	send(&tuskvaultv1.WatchResponse{Message: &tuskvaultv1.WatchResponse_Gap{Gap: &tuskvaultv1.EventGap{After: 101, First: 102, Reason: "the controller was restarted since"}}})
	for _, e := range events[1:] {
		send(&tuskvaultv1.WatchResponse{Message: &tuskvaultv1.WatchResponse_Event{Event: e}})
	}
	return fmt.Errorf("read too slowly: %w", errs.Exhausted)
}

// WatchJob runs a job to the end its instance's name asks for.
func (f *fake) WatchJob(r *tuskvaultv1.WatchJobRequest, s grpc.ServerStreamingServer[tuskvaultv1.WatchJobResponse]) error {
	j, err := f.find(r.GetJob())
	if err != nil {
		return err
	}
	j.State, j.StartTime = tuskvaultv1.JobState_JOB_STATE_RUNNING, timestamppb.New(f.now)
	j.Progress = &tuskvaultv1.JobProgress{Phase: "copying rows", Databases: []*tuskvaultv1.DatabaseProgress{{Database: "shop", Phase: "data", RowsDone: 10, BytesDone: 1000, BytesTotal: 2000, TablesTotal: 7,
		Tables: []*tuskvaultv1.TableProgress{{Table: "public.orders", Phase: "copying", BytesDone: 500, BytesTotal: 1000}, {Table: "public.next", Phase: "waiting", BytesTotal: 9000}}}}}
	if err := s.Send(&tuskvaultv1.WatchJobResponse{Job: j}); err != nil {
		return err
	}
	if strings.HasPrefix(j.GetInstance(), "forever") {
		<-s.Context().Done()
		return s.Context().Err()
	}
	j.State, j.EndTime, j.Progress = tuskvaultv1.JobState_JOB_STATE_SUCCEEDED, timestamppb.New(f.now.Add(3*time.Second)), nil
	j.Result = &tuskvaultv1.JobResult{Outcome: tuskvaultv1.Outcome_OUTCOME_SUCCEEDED, Stats: &tuskvaultv1.JobStats{Rows: 1234567, PlainBytes: 1 << 30, Chunks: 4000, NewChunks: 12}}
	if j.GetDryRun() {
		j.Result.Plan = []string{"database shop: 7 tables, 1,234,567 rows"}
	}
	if strings.HasPrefix(j.GetInstance(), "bad") {
		j.State, j.Message = tuskvaultv1.JobState_JOB_STATE_FAILED, "database shop: permission denied"
		j.Result.Problems = []*tuskvaultv1.Problem{{Severity: tuskvaultv1.Severity_SEVERITY_ERROR, Database: "shop", Object: "public.secrets", Reason: "permission denied", Hint: "GRANT SELECT ON public.secrets TO tuskvault"}}
	}
	f.endDrill(j)
	return s.Send(&tuskvaultv1.WatchJobResponse{Job: j})
}
