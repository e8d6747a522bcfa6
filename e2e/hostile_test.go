package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/tuskvault/tuskvault/e2e/harness"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pgtest"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/rpc"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// identityOf is where an agent keeps its key and certificate.
func identityOf(s *harness.System, agent string) string {
	return filepath.Join(s.AgentDir(agent), "agent", "identity.pem")
}

// stolen enrolls an agent, stops it, and gives what a thief of its host has: a
// connection with its certificate.
func stolen(t *testing.T, s *harness.System, name string, env []string) *grpc.ClientConn {
	t.Helper()
	must(t, s.Enroll(t.Context(), name, env))
	_, err := s.Agents[name].Stop(t.Context())
	must(t, err)
	identity, err := pki.LoadIdentity(identityOf(s, name))
	must(t, err)
	config, err := identity.ClientTLS()
	must(t, err)
	conn, err := rpc.Dial(s.Addr, config)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// stranger is a connection that trusts the controller and shows no certificate.
func stranger(t *testing.T, s *harness.System, agent string) *grpc.ClientConn {
	t.Helper()
	identity, err := pki.LoadIdentity(identityOf(s, agent))
	must(t, err)
	config, err := pki.ClientTLS(identity.Root, nil)
	must(t, err)
	conn, err := rpc.Dial(s.Addr, config)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// is wants an error of a kind.
func is(t *testing.T, what string, err error, kinds ...*errs.Kind) {
	t.Helper()
	if !slices.Contains(kinds, errs.KindOf(err)) {
		t.Errorf("%s: got %v, want %v", what, err, kinds)
	}
}

// method is one method of the wire.
type method struct {
	name  string // full, with a slash before
	input protoreflect.MessageDescriptor
	desc  grpc.StreamDesc
}

// methods gives all methods that there are.
func methods(t *testing.T) (all []method) {
	t.Helper()
	protoregistry.GlobalFiles.RangeFilesByPackage("tuskvault.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				all = append(all, method{fmt.Sprintf("/%s/%s", service.FullName(), m.Name()), m.Input(),
					grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}})
			}
		}
		return true
	})
	if len(all) < 20 {
		t.Fatalf("only %d methods are known", len(all))
	}
	return all
}

// call calls a method with an empty request and gives the error.
func (m method) call(t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := conn.NewStream(ctx, &m.desc, m.name)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(dynamicpb.NewMessage(m.input)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(dynamicpb.NewMessage(m.input))
}

func TestAnAgentsCertificateOpensNoOperatorsMethodAndNoneOpensNothing(t *testing.T) {
	s := running(t, shared.Server(t))
	thief := stolen(t, s, "evil", shared.Server(t).Env("postgres"))
	nobody := stranger(t, s, "evil")
	own := []string{tuskvaultv1.AgentService_Session_FullMethodName, tuskvaultv1.ChunkService_Upload_FullMethodName, tuskvaultv1.ChunkService_Commit_FullMethodName,
		tuskvaultv1.ChunkService_Download_FullMethodName, tuskvaultv1.EnrollmentService_Enroll_FullMethodName, tuskvaultv1.EnrollmentService_Renew_FullMethodName,
		tuskvaultv1.StatusService_WhoAmI_FullMethodName}
	for _, m := range methods(t) {
		if !slices.Contains(own, m.name) {
			is(t, m.name+" by an agent", m.call(t, thief), errs.Denied)
		}
		is(t, m.name+" by nobody", m.call(t, nobody), errs.Unauthenticated)
	}
	ok(t, s, "status")
}

// session opens a session and says hello.
func session(t *testing.T, conn *grpc.ClientConn, hello *tuskvaultv1.Hello) grpc.BidiStreamingClient[tuskvaultv1.SessionRequest, tuskvaultv1.SessionResponse] {
	t.Helper()
	hello.Build = &tuskvaultv1.BuildInfo{Version: "evil", Capability: 1}
	stream, err := tuskvaultv1.NewAgentServiceClient(conn).Session(t.Context())
	must(t, err)
	must(t, stream.Send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Hello{Hello: hello}}))
	m, err := stream.Recv()
	must(t, err)
	if m.GetWelcome() == nil {
		t.Fatalf("first message %v", m)
	}
	return stream
}

// held starts a backup of db1 that runs until release is called, and names its attempt.
func held(t *testing.T, s *harness.System, pg *pgtest.Server) (id string, ref *tuskvaultv1.AttemptRef, release func()) {
	t.Helper()
	sql(t, pg, "postgres", "CREATE DATABASE held")
	sql(t, pg, "held", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
	lock, err := pgconn.Connect(t.Context(), pg.URL("held"))
	must(t, err)
	_, err = lock.Exec(t.Context(), "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").ReadAll()
	must(t, err)
	release = func() { _ = lock.Close(context.WithoutCancel(t.Context())) } // the lock goes with it
	t.Cleanup(release)
	var started jobs
	must(t, s.JSON(t.Context(), &started, "backup", "db1/main", "--database", "held"))
	id = started.Jobs[0].ID
	must(t, s.Eventually(t.Context(), "the backup runs", s.Agents["db1"], func() (bool, error) {
		var v struct {
			Job struct {
				State    string `json:"state"`
				Attempts []struct {
					Ref struct {
						Epoch   string `json:"epoch"`
						Counter string `json:"counter"`
					} `json:"ref"`
				} `json:"attempts"`
			} `json:"job"`
		}
		if err := s.JSON(t.Context(), &v, "job", "show", id); err != nil {
			return false, err
		}
		if !strings.HasSuffix(strings.ToLower(v.Job.State), "running") || len(v.Job.Attempts) == 0 {
			return false, nil
		}
		epoch, err1 := strconv.ParseUint(v.Job.Attempts[0].Ref.Epoch, 10, 64)
		counter, err2 := strconv.ParseUint(v.Job.Attempts[0].Ref.Counter, 10, 64)
		ref = &tuskvaultv1.AttemptRef{JobId: id, Epoch: epoch, Counter: counter}
		return true, errors.Join(err1, err2)
	}))
	return id, ref, release
}

func TestAStolenHostReachesNothingOfAnother(t *testing.T) {
	pg := pgtest.Start(t, pgtest.Options{})
	s := running(t, pg)
	before := ok(t, s, "instance", "show", "db1/main", "-o", "json")
	system := field(t, before, "system_identifier")
	thief := stolen(t, s, "evil", pg.Env("postgres"))
	snapshot := backup(t, s, "--database", "postgres")
	id, ref, release := held(t, s, pg)

	// It claims to be the other: its system identifier, its name, its running job.
	number, err := strconv.ParseUint(system, 10, 64)
	must(t, err)
	claim := &tuskvaultv1.InstanceInventory{Name: "main", Reachable: true, ServerVersionNum: 150000, SystemIdentifier: number}
	other := &tuskvaultv1.InstanceInventory{Name: "db1/main", Reachable: true, SystemIdentifier: number}
	stream := session(t, thief, &tuskvaultv1.Hello{Inventory: &tuskvaultv1.Inventory{Hostname: "db1", Instances: []*tuskvaultv1.InstanceInventory{claim, other}},
		Running: []*tuskvaultv1.AttemptRef{ref}, Allow: []string{"backup", "restore-new", "env=prod"}})
	for _, m := range []*tuskvaultv1.SessionRequest{
		{Message: &tuskvaultv1.SessionRequest_Accept{Accept: &tuskvaultv1.JobAccept{Attempt: ref}}},
		{Message: &tuskvaultv1.SessionRequest_Progress{Progress: &tuskvaultv1.JobProgress{Attempt: ref, Phase: "stolen"}}},
		{Message: &tuskvaultv1.SessionRequest_Log{Log: &tuskvaultv1.JobLog{Attempt: ref, Level: "info", Message: "stolen words"}}},
		{Message: &tuskvaultv1.SessionRequest_Result{Result: &tuskvaultv1.JobResult{Attempt: ref, Outcome: tuskvaultv1.Outcome_OUTCOME_FAILED, Error: "stolen"}}},
		{Message: &tuskvaultv1.SessionRequest_Reject{Reject: &tuskvaultv1.JobReject{Attempt: ref, Reason: "stolen"}}},
		{Message: &tuskvaultv1.SessionRequest_Heartbeat{Heartbeat: &tuskvaultv1.Heartbeat{Running: []*tuskvaultv1.AttemptRef{ref}}}},
	} {
		must(t, stream.Send(m))
	}
	for canceled := false; ; {
		m, err := stream.Recv()
		must(t, err)
		if m.GetResultAck() != nil || m.GetOffer() != nil {
			t.Errorf("the thief was told %v", m)
		}
		canceled = canceled || m.GetCancel().GetAttempt().GetJobId() == id
		if m.GetHeartbeatAck() != nil {
			if !canceled {
				t.Error("the thief was not told to leave the attempt")
			}
			break
		}
	}

	// It moves chunks in the other's name.
	chunks := tuskvaultv1.NewChunkServiceClient(thief)
	upload, err := chunks.Upload(t.Context())
	must(t, err)
	must(t, upload.Send(&tuskvaultv1.UploadRequest{Message: &tuskvaultv1.UploadRequest_Begin{Begin: &tuskvaultv1.UploadBegin{Attempt: ref}}}))
	_, err = upload.Recv()
	is(t, "upload to another's job", err, errs.Denied)
	commit, err := chunks.Commit(t.Context())
	must(t, err)
	must(t, commit.Send(&tuskvaultv1.CommitRequest{Piece: &tuskvaultv1.CommitRequest_Begin{Begin: &tuskvaultv1.CommitBegin{
		Attempt: ref, ReferencesBytes: 100, ContentBytes: 100, SealEpoch: 1, Complete: true}}}))
	_, err = commit.CloseAndRecv()
	is(t, "commit of another's job", err, errs.Denied)
	for what, try := range map[string]*tuskvaultv1.AttemptRef{"another's job": ref, "a snapshot's id": {JobId: snapshot, Epoch: ref.GetEpoch(), Counter: 1}, "no job": {JobId: strings.Repeat("ab", 16), Epoch: 1, Counter: 1}} {
		download, err := chunks.Download(t.Context())
		must(t, err)
		must(t, download.Send(&tuskvaultv1.DownloadRequest{Message: &tuskvaultv1.DownloadRequest_Begin{Begin: &tuskvaultv1.DownloadBegin{
			Attempt: try, WantSnapshot: true, WindowBytes: 8 << 20}}}))
		_, err = download.Recv()
		is(t, "download with "+what, err, errs.Denied, errs.NotFound)
	}

	// Nothing of it has counted.
	after := ok(t, s, "instance", "show", "db1/main", "-o", "json")
	for _, name := range []string{"id", "domain_id", "system_identifier", "incarnation"} {
		if was, now := field(t, before, name), field(t, after, name); was != now {
			t.Errorf("%s of the other's instance became %q, was %q", name, now, was)
		}
	}
	if mine := ok(t, s, "instance", "show", "evil/main", "-o", "json"); field(t, mine, "domain_id") == field(t, after, "domain_id") {
		t.Error("both instances share a domain")
	}
	if selected := ok(t, s, "instance", "ls", "--selector", "env=prod", "-o", "json"); strings.Contains(selected, "evil/main") {
		t.Errorf("the thief chose its labels:\n%s", selected)
	}
	release()
	must(t, s.Eventually(t.Context(), "the backup ends", s.Agents["db1"], func() (bool, error) {
		return strings.HasSuffix(strings.ToLower(job(t, s, id).State), "succeeded"), nil
	}))
	if log := ok(t, s, "job", "logs", id); strings.Contains(log, "stolen") {
		t.Errorf("words of the thief are in the job's log:\n%s", log)
	}
}

func TestOversizedMessagesAndIdleStreamsCostOthersNothing(t *testing.T) {
	pg := shared.Server(t)
	s := running(t, pg)
	thief := stolen(t, s, "evil", pg.Env("postgres"))
	large := grpc.MaxCallSendMsgSize(64 << 20)
	_, err := tuskvaultv1.NewEnrollmentServiceClient(thief).Renew(t.Context(), &tuskvaultv1.RenewRequest{Csr: make([]byte, 16<<20)}, large)
	is(t, "a request of 16 MiB", err, errs.Exhausted)
	_, err = tuskvaultv1.NewEnrollmentServiceClient(thief).Renew(t.Context(), &tuskvaultv1.RenewRequest{Csr: make([]byte, 1<<20)})
	is(t, "a certificate request of 1 MiB", err, errs.Invalid)
	stream, err := tuskvaultv1.NewAgentServiceClient(thief).Session(t.Context(), large)
	must(t, err)
	_ = stream.Send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Hello{Hello: &tuskvaultv1.Hello{Allow: []string{strings.Repeat("x", 16<<20)}}}})
	_, err = stream.Recv()
	is(t, "a hello of 16 MiB", err, errs.Exhausted)
	_, err = tuskvaultv1.NewEnrollmentServiceClient(stranger(t, s, "evil")).Enroll(t.Context(), &tuskvaultv1.EnrollRequest{Csr: make([]byte, 3<<20)})
	is(t, "3 MiB of a stranger", err, errs.Unavailable, errs.Exhausted)

	peak := s.Controller.PeakMemory()
	for range 200 {
		_, err := tuskvaultv1.NewChunkServiceClient(thief).Upload(t.Context())
		must(t, err)
	}
	identity, err := pki.LoadIdentity(identityOf(s, "evil"))
	must(t, err)
	var conns []*grpc.ClientConn
	for range 100 {
		config, err := identity.ClientTLS()
		must(t, err)
		conn, err := rpc.Dial(s.Addr, config)
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = tuskvaultv1.NewStatusServiceClient(conn).WhoAmI(t.Context(), &tuskvaultv1.WhoAmIRequest{})
		must(t, err)
		conns = append(conns, conn)
	}
	ok(t, s, "status")
	backup(t, s, "--database", "postgres")
	if grown := s.Controller.PeakMemory() - peak; grown > 256<<20 {
		t.Errorf("the controller took %d MiB for idle streams of one host", grown>>20)
	}
	_, err = tuskvaultv1.NewStatusServiceClient(conns[99]).WhoAmI(t.Context(), &tuskvaultv1.WhoAmIRequest{})
	must(t, err)
}

// field gives the first value of a name in JSON.
func field(t *testing.T, text, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, `"`+name+`":`)
	if !found {
		t.Fatalf("no %s in:\n%s", name, text)
	}
	value, _, _ := strings.Cut(rest, "\n")
	return strings.Trim(strings.TrimSpace(value), `",`)
}
