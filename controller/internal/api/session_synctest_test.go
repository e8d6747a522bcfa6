package api_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

// hello is what an honest agent with one instance says.
func hello(instances ...*tuskvaultv1.InstanceInventory) *tuskvaultv1.Hello {
	if instances == nil {
		instances = []*tuskvaultv1.InstanceInventory{instance("main", 7)}
	}
	return &tuskvaultv1.Hello{Build: &tuskvaultv1.BuildInfo{Version: "test", Capability: 1},
		Inventory: &tuskvaultv1.Inventory{Hostname: "host", TakenTime: timestamppb.Now(), Instances: instances},
		Allow:     []string{"backup", "restore-new"}}
}

func instance(name string, systemIdentifier uint64) *tuskvaultv1.InstanceInventory {
	return &tuskvaultv1.InstanceInventory{Name: name, Reachable: true, ServerVersionNum: 150018, SystemIdentifier: systemIdentifier,
		Databases: []*tuskvaultv1.DatabaseInventory{{Name: "shop", SizeBytes: 1000}}}
}

// session is the agent's end of a session.
type session struct {
	t       *testing.T
	stream  grpc.BidiStreamingClient[tuskvaultv1.SessionRequest, tuskvaultv1.SessionResponse]
	welcome *tuskvaultv1.Welcome
	in      chan *tuskvaultv1.SessionResponse
	ended   chan error
}

// session opens a session and takes its welcome.
func (w *world) session(a identity, h *tuskvaultv1.Hello) *session {
	w.t.Helper()
	s := w.start(a, h)
	select {
	case m := <-s.in:
		if s.welcome = m.GetWelcome(); s.welcome == nil {
			w.t.Fatalf("first message %v, want welcome", m)
		}
	case err := <-s.ended:
		w.t.Fatalf("session ended: %v", err)
	}
	return s
}

// start opens a session.
func (w *world) start(a identity, h *tuskvaultv1.Hello) *session {
	w.t.Helper()
	stream, err := tuskvaultv1.NewAgentServiceClient(w.dial(a.cert)).Session(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	s := &session{t: w.t, stream: stream, in: make(chan *tuskvaultv1.SessionResponse, 1000), ended: make(chan error, 1)}
	if h != nil {
		s.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Hello{Hello: h}})
	}
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				s.ended <- err
				return
			}
			s.in <- m
		}
	}()
	return s
}

func (s *session) send(m *tuskvaultv1.SessionRequest) {
	s.t.Helper()
	_ = s.stream.Send(m) // how a session ends is seen by its reader
}

func (s *session) accept(ref *tuskvaultv1.AttemptRef) {
	s.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Accept{Accept: &tuskvaultv1.JobAccept{Attempt: ref}}})
}

func (s *session) result(ref *tuskvaultv1.AttemptRef) {
	s.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Result{Result: &tuskvaultv1.JobResult{Attempt: ref, Outcome: tuskvaultv1.Outcome_OUTCOME_SUCCEEDED}}})
}

func (s *session) heartbeat(running ...*tuskvaultv1.AttemptRef) {
	s.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Heartbeat{Heartbeat: &tuskvaultv1.Heartbeat{Time: timestamppb.Now(), Running: running}}})
}

// next gives the next message for which pick gives something; others are skipped.
func next[T comparable](s *session, pick func(*tuskvaultv1.SessionResponse) T) T {
	s.t.Helper()
	var zero T
	timeout := time.After(2 * time.Minute)
	for {
		select {
		case m := <-s.in:
			if v := pick(m); v != zero {
				return v
			}
		case err := <-s.ended:
			s.ended <- err
			s.t.Fatalf("session ended: %v", err)
		case <-timeout:
			s.t.Fatal("no such message came")
		}
	}
}

func ref(r job.Ref) *tuskvaultv1.AttemptRef {
	return &tuskvaultv1.AttemptRef{JobId: r.Job.String(), Epoch: r.Fence.Epoch, Counter: r.Fence.Counter}
}

// instanceOf gives an instance's record.
func (w *world) instanceOf(agent, name string) (i catalog.Instance) {
	w.t.Helper()
	w.view(func(tx *catalog.Tx) (err error) {
		i, err = tx.InstanceByName(agent, name)
		return err
	})
	return i
}

func (w *world) instances() (out []catalog.Instance) {
	w.t.Helper()
	w.view(func(tx *catalog.Tx) (err error) {
		out, _, err = tx.Instances(catalog.Page{Size: catalog.MaxPage}, nil)
		return err
	})
	return out
}

func TestAJobIsOfferedAcceptedAndItsResultAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.session(w.agent("db1"), hello())
		if s.welcome.GetAgentName() != "db1" || s.welcome.GetEpoch() != 1 || s.welcome.GetLeaseMs() <= s.welcome.GetHeartbeatIntervalMs() ||
			s.welcome.GetWitness().GetRepositoryId() != w.repository.ID().String() {
			t.Errorf("welcome %v", s.welcome)
		}
		i := w.instanceOf("db1", "main")
		want := w.jobs.give(i, repo.NewID())
		offer := next(s, (*tuskvaultv1.SessionResponse).GetOffer)
		if offer.GetAttempt().GetJobId() != want.Job.String() || offer.GetBackup().GetInstance() != "main" {
			t.Errorf("offer %v", offer)
		}
		if g := offer.GetGrant(); string(g.GetDomainId()) != string(i.Domain[:]) || len(g.GetNameKey()) != 32 || len(g.GetCutKey()) != 32 || len(g.GetSealKeys()) != 1 {
			t.Error("grant is not that of the instance's domain")
		}
		s.accept(offer.GetAttempt())
		s.heartbeat(offer.GetAttempt())
		if ack := next(s, (*tuskvaultv1.SessionResponse).GetHeartbeatAck); ack.GetWitness().GetLogNumber() != 10 {
			t.Errorf("heartbeat answered with %v", ack)
		}
		s.result(offer.GetAttempt())
		next(s, (*tuskvaultv1.SessionResponse).GetResultAck)
		s.result(offer.GetAttempt()) // the acknowledgement was lost: the same again
		next(s, (*tuskvaultv1.SessionResponse).GetResultAck)
		if len(w.jobs.accepted) != 1 || len(w.jobs.results) != 1 || w.jobs.extended[want].IsZero() {
			t.Errorf("accepted %v, results %v", w.jobs.accepted, w.jobs.results)
		}
	})
}

func TestANewerSessionOfAnAgentReplacesTheOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		old := w.session(a, hello())
		newer := w.session(a, hello())
		wantKind(t, <-old.ended, errs.Conflict, "newer")
		w.jobs.give(w.instanceOf("db1", "main"), repo.NewID())
		next(newer, (*tuskvaultv1.SessionResponse).GetOffer)
		if !w.hub.Online(a.id) {
			t.Error("the agent is not online")
		}
	})
}

func TestReconnectingComparesWhatRunsWithTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		s := w.session(a, hello())
		kept := w.jobs.give(w.instanceOf("db1", "main"), repo.NewID())
		lost := w.jobs.give(w.instanceOf("db1", "main"), repo.NewID())
		for range 2 {
			s.accept(next(s, (*tuskvaultv1.SessionResponse).GetOffer).GetAttempt())
		}
		s.heartbeat()
		next(s, (*tuskvaultv1.SessionResponse).GetHeartbeatAck)
		_ = s.stream.CloseSend()
		if err := <-s.ended; !errors.Is(err, io.EOF) {
			t.Errorf("a session that its agent ended: %v", err)
		}
		h := hello()
		never := job.Ref{Job: repo.NewID(), Fence: repo.Fence{Epoch: 1, Counter: 99}}
		h.Running = []*tuskvaultv1.AttemptRef{ref(kept), ref(never)}
		again := w.session(a, h)
		if got := again.welcome.GetAbandon(); len(got) != 1 || got[0].GetJobId() != never.Job.String() {
			t.Errorf("abandon %v, want the attempt it never had", got)
		}
		if !w.jobs.running[kept] || w.jobs.running[lost] {
			t.Errorf("running %v, want %v alone", w.jobs.running, kept)
		}
	})
}

func TestAnAgentThatFallsSilentLosesItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		s := w.session(a, hello())
		began := time.Now()
		wantKind(t, <-s.ended, errs.Timeout)
		if silent := time.Since(began); silent > 2*time.Minute {
			t.Errorf("noticed after %s", silent)
		}
		if w.hub.Online(a.id) {
			t.Error("still online")
		}
	})
}

func TestHeartbeatsKeepASessionForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		s := w.session(a, hello())
		before := w.counted.updates.Load()
		for range 720 { // two hours
			s.heartbeat()
			next(s, (*tuskvaultv1.SessionResponse).GetHeartbeatAck)
			time.Sleep(10 * time.Second)
		}
		if n := w.counted.updates.Load() - before; n > 250 {
			t.Errorf("%d catalog transactions for 720 heartbeats, want one each half minute", n)
		}
		w.view(func(tx *catalog.Tx) error {
			r, err := tx.Agent(a.id)
			if time.Since(r.LastSeen) > time.Minute {
				t.Errorf("last seen %s ago", time.Since(r.LastSeen))
			}
			return err
		})
	})
}

func TestAnUnansweredOfferIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.session(w.agent("db1"), hello())
		want := w.jobs.give(w.instanceOf("db1", "main"), repo.NewID())
		next(s, (*tuskvaultv1.SessionResponse).GetOffer)
		for range 6 {
			time.Sleep(10 * time.Second)
			s.heartbeat()
		}
		if c := next(s, (*tuskvaultv1.SessionResponse).GetCancel); c.GetAttempt().GetJobId() != want.Job.String() {
			t.Errorf("cancel %v", c)
		}
		if !strings.Contains(w.jobs.rejected[want], "not answered") {
			t.Errorf("rejected %q", w.jobs.rejected)
		}
	})
}

func TestARejectionAndACancelReachTheOtherSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		s := w.session(a, hello())
		refused := w.jobs.give(w.instanceOf("db1", "main"), repo.NewID())
		offer := next(s, (*tuskvaultv1.SessionResponse).GetOffer)
		s.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Reject{Reject: &tuskvaultv1.JobReject{Attempt: offer.GetAttempt(), Reason: "busy", Retryable: true}}})
		taken := w.jobs.give(w.instanceOf("db1", "main"), repo.NewID())
		s.accept(next(s, (*tuskvaultv1.SessionResponse).GetOffer).GetAttempt())
		began := time.Now()
		w.hub.Cancel(a.id, taken, "not needed")
		if c := next(s, (*tuskvaultv1.SessionResponse).GetCancel); c.GetAttempt().GetCounter() != taken.Fence.Counter || c.GetReason() != "not needed" {
			t.Errorf("cancel %v", c)
		}
		if time.Since(began) > time.Second {
			t.Errorf("cancel took %s", time.Since(began))
		}
		synctest.Wait()
		if w.jobs.rejected[refused] != "busy" {
			t.Errorf("rejected %q", w.jobs.rejected)
		}
	})
}

func TestALateResultOfAnOldAttemptDoesNotCountAndIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.session(w.agent("db1"), hello())
		id := repo.NewID()
		i := w.instanceOf("db1", "main")
		old := w.jobs.give(i, id)
		next(s, (*tuskvaultv1.SessionResponse).GetOffer)
		newest := w.jobs.give(i, id)
		next(s, (*tuskvaultv1.SessionResponse).GetOffer)
		s.accept(ref(old))
		if c := next(s, (*tuskvaultv1.SessionResponse).GetCancel); c.GetAttempt().GetCounter() != old.Fence.Counter {
			t.Errorf("cancel %v, want the old attempt", c)
		}
		s.result(ref(old))
		next(s, (*tuskvaultv1.SessionResponse).GetResultAck)
		if _, counted := w.jobs.results[old]; counted {
			t.Error("the old attempt's result counts")
		}
		_ = newest
	})
}

func TestAResultThatCannotBeJournaledIsNotAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		s := w.session(a, hello())
		w.jobs.give(w.instanceOf("db1", "main"), repo.NewID())
		offer := next(s, (*tuskvaultv1.SessionResponse).GetOffer)
		s.accept(offer.GetAttempt())
		w.jobs.mu.Lock()
		w.jobs.fail = fmt.Errorf("store: %w", errs.Unavailable)
		w.jobs.mu.Unlock()
		s.result(offer.GetAttempt())
		wantKind(t, <-s.ended, errs.Unavailable)
		for len(s.in) > 0 {
			if m := <-s.in; m.GetResultAck() != nil {
				t.Error("acknowledged")
			}
		}
		w.jobs.mu.Lock()
		w.jobs.fail = nil
		w.jobs.mu.Unlock()
		again := w.session(a, hello())
		again.result(offer.GetAttempt())
		next(again, (*tuskvaultv1.SessionResponse).GetResultAck)
	})
}

func TestFiftyAgentsWorkAtOnceAndGoOnAfterARestartOfTheirSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const n = 50
		agents := make([]identity, n)
		sessions := make([]*session, n)
		for i := range n {
			agents[i] = w.agent(fmt.Sprintf("db%02d", i))
		}
		for round := range 2 {
			for i := range n {
				sessions[i] = w.session(agents[i], hello())
			}
			for i := range n {
				w.jobs.give(w.instanceOf(agents[i].name, "main"), repo.NewID())
			}
			for i := range n {
				offer := next(sessions[i], (*tuskvaultv1.SessionResponse).GetOffer)
				sessions[i].accept(offer.GetAttempt())
				sessions[i].result(offer.GetAttempt())
			}
			for i := range n {
				next(sessions[i], (*tuskvaultv1.SessionResponse).GetResultAck)
			}
			if got := len(w.jobs.results); got != (round+1)*n {
				t.Errorf("round %d: %d results, want %d", round, got, (round+1)*n)
			}
		}
		if all := w.instances(); len(all) != n {
			t.Errorf("%d instances of %d agents", len(all), n)
		}
	})
}

func TestStoppingTellsAgentsAndJournalsWhatHadArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		s := w.session(a, hello())
		want := w.jobs.give(w.instanceOf("db1", "main"), repo.NewID())
		offer := next(s, (*tuskvaultv1.SessionResponse).GetOffer)
		s.accept(offer.GetAttempt())
		synctest.Wait()
		goOn := w.jobs.hangs()
		s.result(offer.GetAttempt())
		synctest.Wait()
		w.stop()
		time.Sleep(3 * time.Second) // a slow journal, while the program waits to stop
		goOn()
		wantKind(t, <-s.ended, errs.Unavailable, "stopping")
		synctest.Wait()
		w.jobs.mu.Lock()
		defer w.jobs.mu.Unlock()
		if _, ok := w.jobs.results[want]; !ok {
			t.Error("a result that had arrived was not journaled")
		}
		wantKind(t, <-w.start(a, hello()).ended, errs.Unavailable, "stopping")
	})
}

func TestAWitnessAheadOfTheStoreIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := hello()
		h.Witness = &tuskvaultv1.Witness{RepositoryId: w.repository.ID().String(), Epoch: 1, LogNumber: 11, LogHash: make([]byte, 32)}
		w.session(w.agent("db1"), h)
		if err := w.catalog.View(t.Context(), func(tx *catalog.Tx) error {
			if err := tx.MayDelete(); errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), "agent db1 has seen record 11") {
				t.Errorf("may delete: %v", err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		status, err := tuskvaultv1.NewStatusServiceClient(w.dial(w.operator("v", catalog.RoleViewer).cert)).GetStatus(t.Context(), &tuskvaultv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if n := status.GetNotices(); len(n) == 0 || !strings.Contains(n[0].GetMessage(), "rolled back") {
			t.Errorf("notices %v", n)
		}
	})
}
