package session_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/agent/internal/job"
	"github.com/tuskvault/tuskvault/agent/internal/journal"
	"github.com/tuskvault/tuskvault/agent/internal/session"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/pki"
	"github.com/tuskvault/tuskvault/internal/repo"
	"github.com/tuskvault/tuskvault/internal/rpc"
	"github.com/tuskvault/tuskvault/internal/version"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Rules of the fake controller.
const (
	heartbeat = 10 * time.Second
	lease     = time.Minute
)

// controller is a small working controller: one service that welcomes agents,
// answers heartbeats and records what it hears.
type controller struct {
	tuskvaultv1.UnimplementedAgentServiceServer
	tuskvaultv1.UnimplementedEnrollmentServiceServer

	t      *testing.T
	root   *pki.Root
	issuer *pki.Issuer
	token  pki.JoinToken

	mu       sync.Mutex
	lis      *bufconn.Listener
	server   *grpc.Server
	done     chan struct{}
	epoch    uint64
	life     time.Duration // of certificates
	silent   bool          // heartbeats are not answered
	keepAcks bool          // results are not acknowledged
	offline  bool          // connections are refused
	abandon  []*tuskvaultv1.AttemptRef
	witness  *tuskvaultv1.Witness
	ahead    time.Duration // of this clock
	dials    []time.Time
	enrolls  []*tuskvaultv1.EnrollRequest
	refuse   error // of enrolling
	agent    repo.AgentID
	sessions []*heard
}

// heard is what one session said.
type heard struct {
	c       *controller
	stream  grpc.BidiStreamingServer[tuskvaultv1.SessionRequest, tuskvaultv1.SessionResponse]
	cancel  context.CancelFunc
	hello   *tuskvaultv1.Hello
	serial  string
	sendMu  sync.Mutex
	opened  time.Time
	beats   []time.Time
	running []int
	accepts []*tuskvaultv1.JobAccept
	rejects []*tuskvaultv1.JobReject
	results []*tuskvaultv1.JobResult
	lines   []*tuskvaultv1.JobLog
	bars    []*tuskvaultv1.JobProgress
	stocks  []*tuskvaultv1.Inventory
}

// newController makes a controller and starts it.
func newController(t *testing.T) *controller {
	t.Helper()
	c := &controller{t: t, epoch: 1, life: pki.LeafLife, agent: repo.NewID()}
	var err error
	if c.root, err = pki.NewRoot(repo.NewID(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if c.issuer, err = c.root.Issuer(1, time.Now()); err != nil {
		t.Fatal(err)
	}
	c.token = pki.NewJoinToken(c.root.Certificate())
	c.start()
	return c
}

// start serves anew, as after a restart.
func (c *controller) start() {
	c.t.Helper()
	config, err := pki.ServerTLS(c.root.Certificate(), pki.NewServerCertificate(c.issuer, pki.LeafLife).Certificate)
	if err != nil {
		c.t.Fatal(err)
	}
	s := rpc.NewServer(rpc.ServerOptions{TLS: config, Log: zap.NewNop(), Public: []string{tuskvaultv1.EnrollmentService_Enroll_FullMethodName}})
	tuskvaultv1.RegisterAgentServiceServer(s, c)
	tuskvaultv1.RegisterEnrollmentServiceServer(s, c)
	lis := bufconn.Listen(1 << 20)
	done := make(chan struct{})
	c.mu.Lock()
	c.lis, c.server, c.done = lis, s, done
	c.mu.Unlock()
	go func() { defer close(done); _ = s.Serve(lis) }() // stop waits for it
}

// stop ends all sessions and waits.
func (c *controller) stop() {
	c.server.Stop()
	<-c.done
}

// dialer connects agents.
func (c *controller) dialer() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		c.mu.Lock()
		lis, offline := c.lis, c.offline
		c.dials = append(c.dials, time.Now())
		c.mu.Unlock()
		if offline {
			return nil, fmt.Errorf("network is unreachable")
		}
		return lis.DialContext(ctx)
	})}
}

func (c *controller) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

// Enroll takes the one token.
func (c *controller) Enroll(_ context.Context, r *tuskvaultv1.EnrollRequest) (*tuskvaultv1.EnrollResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enrolls = append(c.enrolls, r)
	if c.refuse != nil {
		return nil, c.refuse
	}
	id, hash, err := pki.ParseCredential(r.GetToken())
	if err != nil {
		return nil, err
	}
	if id != c.token.ID || hash != c.token.Hash() {
		return nil, fmt.Errorf("join token %s: forged: %w", id, errs.Unauthenticated)
	}
	chain, err := c.issuer.IssueAgent(r.GetCsr(), c.agent, time.Now(), c.life)
	if err != nil {
		return nil, err
	}
	return &tuskvaultv1.EnrollResponse{AgentId: c.agent.String(), Name: r.GetName(), CertificateChain: chain.Certificates,
		RootCertificate: c.root.Certificate().Raw, ExpireTime: timestamppb.New(chain.Leaf.NotAfter)}, nil
}

// Renew gives the caller a new certificate.
func (c *controller) Renew(ctx context.Context, r *tuskvaultv1.RenewRequest) (*tuskvaultv1.RenewResponse, error) {
	p, ok := rpc.PeerFrom(ctx)
	if !ok || p.Kind != pki.Agent {
		return nil, fmt.Errorf("renew: no agent: %w", errs.Denied)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		return nil, c.refuse
	}
	chain, err := c.issuer.IssueAgent(r.GetCsr(), p.Agent, time.Now(), c.life)
	if err != nil {
		return nil, err
	}
	return &tuskvaultv1.RenewResponse{CertificateChain: chain.Certificates, ExpireTime: timestamppb.New(chain.Leaf.NotAfter)}, nil
}

// Session welcomes and records.
func (c *controller) Session(st grpc.BidiStreamingServer[tuskvaultv1.SessionRequest, tuskvaultv1.SessionResponse]) error {
	first, err := st.Recv()
	if err != nil {
		return err
	}
	peer, _ := rpc.PeerFrom(st.Context())
	ctx, cancel := context.WithCancel(st.Context())
	defer cancel()
	h := &heard{c: c, stream: st, cancel: cancel, hello: first.GetHello(), serial: peer.Serial, opened: time.Now()}
	c.mu.Lock()
	welcome := &tuskvaultv1.Welcome{Epoch: c.epoch, HeartbeatIntervalMs: heartbeat.Milliseconds(), LeaseMs: lease.Milliseconds(),
		Abandon: c.abandon, Witness: c.witness, AgentName: "db1"}
	c.mu.Unlock()
	if err := h.send(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	c.mu.Lock()
	c.sessions = append(c.sessions, h)
	c.mu.Unlock()
	ended := make(chan error, 1)
	go func() {
		for {
			m, err := st.Recv()
			if err != nil {
				ended <- err
				return
			}
			h.take(m)
		}
	}()
	select {
	case <-ctx.Done():
		return fmt.Errorf("session: ended by the test: %w", errs.Unavailable)
	case err := <-ended:
		return err
	}
}

func (h *heard) send(m *tuskvaultv1.SessionResponse) error {
	h.sendMu.Lock()
	defer h.sendMu.Unlock()
	return h.stream.Send(m)
}

// take records one message and answers it as a controller would.
func (h *heard) take(m *tuskvaultv1.SessionRequest) {
	var answer *tuskvaultv1.SessionResponse
	h.c.mu.Lock()
	switch m := m.GetMessage().(type) {
	case *tuskvaultv1.SessionRequest_Heartbeat:
		h.beats = append(h.beats, time.Now())
		h.running = append(h.running, len(m.Heartbeat.GetRunning()))
		if !h.c.silent {
			answer = &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_HeartbeatAck{HeartbeatAck: &tuskvaultv1.HeartbeatAck{
				Time: timestamppb.New(time.Now().Add(h.c.ahead)), Witness: h.c.witness}}}
		}
	case *tuskvaultv1.SessionRequest_Accept:
		h.accepts = append(h.accepts, m.Accept)
	case *tuskvaultv1.SessionRequest_Reject:
		h.rejects = append(h.rejects, m.Reject)
	case *tuskvaultv1.SessionRequest_Result:
		h.results = append(h.results, m.Result)
		if !h.c.keepAcks {
			answer = &tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_ResultAck{ResultAck: &tuskvaultv1.JobResultAck{Attempt: m.Result.GetAttempt()}}}
		}
	case *tuskvaultv1.SessionRequest_Log:
		h.lines = append(h.lines, m.Log)
	case *tuskvaultv1.SessionRequest_Progress:
		h.bars = append(h.bars, m.Progress)
	case *tuskvaultv1.SessionRequest_Inventory:
		h.stocks = append(h.stocks, m.Inventory)
	}
	h.c.mu.Unlock()
	if answer != nil {
		_ = h.send(answer) // a stream that has ended has no answer to take
	}
}

// count tells how many sessions there were.
func (c *controller) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)
}

// last gives a copy of the newest session's record.
func (c *controller) last() heard {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sessions) == 0 {
		c.t.Fatal("no session was opened")
	}
	h := c.sessions[len(c.sessions)-1]
	return heard{c: c, hello: h.hello, serial: h.serial, opened: h.opened, beats: slices.Clone(h.beats), running: slices.Clone(h.running),
		accepts: slices.Clone(h.accepts), rejects: slices.Clone(h.rejects), results: slices.Clone(h.results), lines: slices.Clone(h.lines),
		bars: slices.Clone(h.bars), stocks: slices.Clone(h.stocks)}
}

// tell sends a message in the newest session.
func (c *controller) tell(m *tuskvaultv1.SessionResponse) {
	c.t.Helper()
	c.mu.Lock()
	h := c.sessions[len(c.sessions)-1]
	c.mu.Unlock()
	if err := h.send(m); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// drop ends the newest session from the controller's side.
func (c *controller) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[len(c.sessions)-1].cancel()
}

// ref names attempt n of a job in the controller's epoch.
func (c *controller) ref(id repo.JobID, counter uint64) *tuskvaultv1.AttemptRef {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &tuskvaultv1.AttemptRef{JobId: id.String(), Epoch: c.epoch, Counter: counter}
}

// grant is a usable grant.
func grant() *tuskvaultv1.Grant {
	key := func(b byte) []byte { k := make([]byte, 32); k[0] = b; return k }
	return &tuskvaultv1.Grant{DomainId: key(1)[:16], NameKey: key(2), CutKey: key(3), RefsKey: key(4),
		SealKeys: []*tuskvaultv1.SealKey{{Epoch: 7, Key: key(5)}}, Cut: &tuskvaultv1.CutParams{Target: 192 << 10, Min: 64 << 10, Max: 1 << 20}}
}

// backup offers a backup of "main".
func (c *controller) backup(ref *tuskvaultv1.AttemptRef) {
	c.t.Helper()
	c.tell(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Offer{Offer: &tuskvaultv1.JobOffer{Attempt: ref, Grant: grant(),
		Work: &tuskvaultv1.JobOffer_Backup{Backup: &tuskvaultv1.BackupWork{Instance: "main"}}}}})
}

// restore offers a restore.
func (c *controller) restore(ref *tuskvaultv1.AttemptRef, w *tuskvaultv1.RestoreWork) {
	c.t.Helper()
	w.SnapshotId, w.Instance = repo.NewID().String(), "main"
	c.tell(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Offer{Offer: &tuskvaultv1.JobOffer{Attempt: ref, Grant: grant(),
		Work: &tuskvaultv1.JobOffer_Restore{Restore: w}}}})
}

// cancel cancels an attempt.
func (c *controller) cancel(ref *tuskvaultv1.AttemptRef, reason string) {
	c.t.Helper()
	c.tell(&tuskvaultv1.SessionResponse{Message: &tuskvaultv1.SessionResponse_Cancel{Cancel: &tuskvaultv1.JobCancel{Attempt: ref, Reason: reason}}})
}

// inventor finds one instance.
type inventor struct {
	mu    sync.Mutex
	looks int
	delay time.Duration
	name  string
	also  []session.Instance // beside main
}

func (v *inventor) Inventory(ctx context.Context) session.Inventory {
	v.mu.Lock()
	v.looks++
	delay, name, also := v.delay, v.name, v.also
	v.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
	}
	return session.Inventory{Taken: time.Now(), Hostname: name, Instances: append([]session.Instance{{Name: "main", Version: 150018}}, also...)}
}

// agent is a client under test with its folder.
type agent struct {
	t        *testing.T
	c        *controller
	dir      string
	inventor *inventor
	logs     *observer.ObservedLogs
	log      *zap.Logger
	options  session.Options
	stop     context.CancelCauseFunc
	done     chan error
	level    string
}

// newAgent enrolls an agent.
func newAgent(t *testing.T, c *controller, executors map[job.Kind]job.Executor) *agent {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	a := &agent{t: t, c: c, dir: t.TempDir(), inventor: &inventor{name: "host"}, logs: logs, log: zap.New(core)}
	identity, err := session.Enroll(t.Context(), a.enrollment())
	if err != nil {
		t.Fatalf("enroll: %v", err)
	}
	a.options = session.Options{Controller: "controller:7443", Dial: c.dialer(), Identity: pki.NewHolder(identity), IdentityPath: a.path("identity.pem"),
		Inventor: a.inventor, Executors: executors, Allow: session.DefaultAllow(), Instances: []string{"main"}, Build: version.Get(),
		SetLogLevel: func(l string) error { a.level = l; return nil }, Log: a.log}
	return a
}

func (a *agent) path(name string) string { return filepath.Join(a.dir, name) }

func (a *agent) enrollment() session.Enrollment {
	state, err := session.OpenState(a.path("state.json"))
	if err != nil {
		a.t.Fatal(err)
	}
	return session.Enrollment{Controller: "controller:7443", Dial: a.c.dialer(), Token: a.c.token, Name: "db1", Build: version.Get(),
		IdentityPath: a.path("identity.pem"), State: state, Log: a.log}
}

// start runs the client as after a start of the process: state, journal and
// identity come from the folder.
func (a *agent) start() {
	a.t.Helper()
	var err error
	if a.options.State, err = session.OpenState(a.path("state.json")); err != nil {
		a.t.Fatal(err)
	}
	if a.options.Journal, err = journal.Open(a.path("journal")); err != nil {
		a.t.Fatal(err)
	}
	identity, err := pki.LoadIdentity(a.path("identity.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	a.options.Identity = pki.NewHolder(identity)
	ctx, stop := context.WithCancelCause(context.Background())
	a.stop, a.done = stop, make(chan error, 1)
	client := session.New(a.options)
	go func() { a.done <- client.Run(ctx) }()
}

// end stops the client and gives what Run returned.
func (a *agent) end() error {
	a.stop(fmt.Errorf("the test is over: %w", errs.Canceled))
	return <-a.done
}

// entries gives what the journal on disk has.
func (a *agent) entries() []journal.Entry {
	a.t.Helper()
	j, err := journal.Open(a.path("journal"))
	if err != nil {
		a.t.Fatal(err)
	}
	entries, bad, err := j.Load()
	if err != nil || len(bad) > 0 {
		a.t.Fatalf("journal: %v %v", err, bad)
	}
	return entries
}

// executor blocks until it is released or its context ends.
type executor struct {
	mu       sync.Mutex
	started  int
	active   int
	most     int
	reporter job.Reporter
	jobs     []job.Job
	release  chan job.Result
}

func newExecutor() *executor { return &executor{release: make(chan job.Result)} }

func (e *executor) run(ctx context.Context, j job.Job, r job.Reporter) job.Result {
	e.mu.Lock()
	e.started++
	e.active++
	e.most = max(e.most, e.active)
	e.reporter = r
	e.jobs = append(e.jobs, j)
	e.mu.Unlock()
	defer func() { e.mu.Lock(); e.active--; e.mu.Unlock() }()
	select {
	case result := <-e.release:
		return result
	case <-ctx.Done():
		return job.FailedResult(ctx, ctx.Err())
	}
}

func (e *executor) counts() (started, active, most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.started, e.active, e.most
}

// kinds registers one executor for both kinds.
func (e *executor) kinds() map[job.Kind]job.Executor {
	return map[job.Kind]job.Executor{job.KindBackup: e.run, job.KindRestore: e.run}
}

// bubble runs a test with a controller and an agent that has a session.
func bubble(t *testing.T, fn func(t *testing.T, c *controller, a *agent, e *executor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newController(t)
		e := newExecutor()
		a := newAgent(t, c, e.kinds())
		a.start()
		time.Sleep(time.Second)
		synctest.Wait()
		if c.count() != 1 {
			t.Fatalf("%d sessions after a second, want 1", c.count())
		}
		fn(t, c, a, e)
		if err := a.end(); err != nil {
			t.Errorf("run: %v", err)
		}
		c.stop()
	})
}
