package api_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

func TestReportsOnJobsOfOthersAreRefusedAndAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello())
		theirs := w.jobs.give(w.instanceOf("db1", "main"), repo.NewID())
		evil := w.session(w.agent("evil"), hello())
		evil.accept(ref(theirs))
		next(evil, (*tuskvaultv1.SessionResponse).GetCancel)
		evil.result(ref(theirs))
		evil.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Progress{Progress: &tuskvaultv1.JobProgress{Attempt: ref(theirs), Phase: "x"}}})
		evil.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Log{Log: &tuskvaultv1.JobLog{Attempt: ref(theirs), Message: "x"}}})
		evil.heartbeat(ref(theirs))
		if c := next(evil, (*tuskvaultv1.SessionResponse).GetCancel); c.GetAttempt().GetJobId() != theirs.Job.String() {
			t.Errorf("cancel %v", c)
		}
		next(evil, (*tuskvaultv1.SessionResponse).GetHeartbeatAck)
		synctest.Wait()
		if len(w.jobs.accepted)+len(w.jobs.results)+len(w.jobs.lines)+len(w.jobs.progress)+len(w.jobs.extended) != 0 {
			t.Error("something of it counted")
		}
		if n := len(w.audited("job.accept")) + len(w.audited("job.result")) + len(w.audited("job.log")); n != 3 {
			t.Errorf("%d audit records, want 3", n)
		}
	})
}

func TestClaimsOfAnAgentSelectNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.session(w.agent("db1"), hello(instance("main", 7)))
		victim := w.instanceOf("db1", "main")
		w.session(w.agent("evil"), hello(instance("main", 7), instance("db1/main", 7), instance("", 7), instance(strings.Repeat("x", 64), 7),
			instance("a\x1b[31m", 7), instance("latest:x", 7), instance("main", 8)))
		mine := w.instanceOf("evil", "main")
		if mine.ID == victim.ID || mine.Domain == victim.Domain || mine.OwnDomain == victim.OwnDomain || mine.Domain != mine.OwnDomain {
			t.Errorf("instance %+v shares something with %+v", mine, victim)
		}
		if all := w.instances(); len(all) != 2 {
			t.Errorf("%d instances: names that cannot be used were taken", len(all))
		}
		if again := w.instanceOf("db1", "main"); again.ID != victim.ID || again.Domain != victim.Domain || again.Incarnation != 1 || again.Agent != victim.Agent {
			t.Errorf("the victim's instance changed: %+v", again)
		}
		if got := w.audited("inventory.shorten"); len(got) != 1 || !strings.Contains(got[0].Detail, "not usable") {
			t.Errorf("audit %+v", got)
		}
		fleetClient := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("v", catalog.RoleViewer).cert))
		r, err := fleetClient.GetInstance(t.Context(), &tuskvaultv1.GetInstanceRequest{Instance: "db1/main"})
		if err != nil {
			t.Fatal(err)
		}
		if same := r.GetInstance().GetSameSystemIdentifier(); len(same) != 1 || same[0] != "evil/main" {
			t.Errorf("same system identifier %v, want the suggestion evil/main", same)
		}
	})
}

func TestAnInstanceKeepsIdAndDomainAndCountsIncarnations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		s := w.session(a, hello(instance("main", 7)))
		first := w.instanceOf("db1", "main")
		for _, i := range []*tuskvaultv1.InstanceInventory{{Name: "main", Error: "down"}, instance("main", 8)} {
			s.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Inventory{Inventory: &tuskvaultv1.Inventory{Instances: []*tuskvaultv1.InstanceInventory{i}}}})
			s.heartbeat()
			next(s, (*tuskvaultv1.SessionResponse).GetHeartbeatAck)
			synctest.Wait()
		}
		now := w.instanceOf("db1", "main")
		if now.ID != first.ID || now.Domain != first.Domain || now.Incarnation != 2 || now.SystemIdentifier != 8 {
			t.Errorf("instance %+v, was %+v", now, first)
		}
		if got := w.audited("instance.incarnation"); len(got) != 1 || !strings.Contains(got[0].Detail, "was 7") {
			t.Errorf("audit %+v", got)
		}
	})
}

func TestLabelsComeFromTheTokenAloneAndNamesAreNotTakenTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		credential := w.token(enroll.TokenSpec{Labels: catalog.Labels{"env": "test"}})
		a := w.enrollWith(credential, "db1")
		h := hello()
		h.Allow = append(h.Allow, "env=prod")
		w.session(a, h)
		w.view(func(tx *catalog.Tx) error {
			r, err := tx.Agent(a.id)
			if len(r.Labels) != 1 || r.Labels["env"] != "test" {
				t.Errorf("labels %v", r.Labels)
			}
			return err
		})
	})
}

func TestOddSessionsAreRefusedWithTheirReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent("db1")
		old := hello()
		old.Build.Capability = 0
		many := hello()
		for range 300 {
			many.Running = append(many.Running, ref(job.Ref{Job: repo.NewID(), Fence: repo.Fence{Epoch: 1, Counter: 1}}))
		}
		odd := hello()
		odd.Running = []*tuskvaultv1.AttemptRef{{JobId: "../../etc", Epoch: 1, Counter: 1}}
		noFence := hello()
		noFence.Running = []*tuskvaultv1.AttemptRef{{JobId: repo.NewID().String()}}
		wantKind(t, <-w.start(a, old).ended, errs.Unsupported, "capability", "newer tuskvault-agent")
		wantKind(t, <-w.start(a, many).ended, errs.Invalid, "300")
		wantKind(t, <-w.start(a, odd).ended, errs.Invalid, "32 hex digits")
		wantKind(t, <-w.start(a, noFence).ended, errs.Invalid, "fencing")
		wantKind(t, <-w.start(a, nil).ended, errs.Timeout, "hello")
		first := w.start(a, nil)
		first.heartbeat()
		wantKind(t, <-first.ended, errs.Invalid, "hello")
		empty := w.start(a, nil)
		empty.send(&tuskvaultv1.SessionRequest{})
		wantKind(t, <-empty.ended, errs.Unsupported)
		twice := w.session(a, hello())
		twice.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Hello{Hello: hello()}})
		wantKind(t, <-twice.ended, errs.Invalid, "second hello")
		unspecified := w.session(a, hello())
		unspecified.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Result{Result: &tuskvaultv1.JobResult{
			Attempt: ref(job.Ref{Job: repo.NewID(), Fence: repo.Fence{Epoch: 1, Counter: 1}})}}})
		wantKind(t, <-unspecified.ended, errs.Invalid, "outcome")
		large := w.session(a, hello())
		large.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Log{Log: &tuskvaultv1.JobLog{Message: strings.Repeat("x", 5<<20)}}})
		wantKind(t, <-large.ended, errs.Exhausted)
	})
}

func TestAFloodOfLogLinesIsBoundedAndCostsNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.session(w.agent("db1"), hello())
		want := w.jobs.give(w.instanceOf("db1", "main"), repo.NewID())
		s.accept(next(s, (*tuskvaultv1.SessionResponse).GetOffer).GetAttempt())
		synctest.Wait()
		goOn := w.jobs.hangs()
		for n := range 2000 {
			s.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Log{Log: &tuskvaultv1.JobLog{Attempt: ref(want), Level: "shout", Message: fmt.Sprint(n)}}})
		}
		s.heartbeat(ref(want))
		next(s, (*tuskvaultv1.SessionResponse).GetHeartbeatAck) // though the journal hangs
		synctest.Wait()
		goOn()
		synctest.Wait()
		s.send(&tuskvaultv1.SessionRequest{Message: &tuskvaultv1.SessionRequest_Log{Log: &tuskvaultv1.JobLog{Attempt: ref(want), Message: "last"}}})
		synctest.Wait()
		w.jobs.mu.Lock()
		defer w.jobs.mu.Unlock()
		said := false
		for _, l := range w.jobs.lines {
			said = said || strings.Contains(l.Message, "log lines dropped")
			if l.Level == "shout" {
				t.Fatal("an unknown level was kept")
			}
		}
		if n := len(w.jobs.lines); n > 500 || n < 100 || !said {
			t.Errorf("%d lines kept of a flood, said so = %v", n, said)
		}
		if w.jobs.extended[want].IsZero() {
			t.Error("the lease was not extended")
		}
	})
}
