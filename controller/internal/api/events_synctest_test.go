package api_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/tuskvault/tuskvault/controller/internal/catalog"
	"github.com/tuskvault/tuskvault/controller/internal/enroll"
	"github.com/tuskvault/tuskvault/controller/internal/event"
	"github.com/tuskvault/tuskvault/controller/internal/job"
	"github.com/tuskvault/tuskvault/internal/errs"
	"github.com/tuskvault/tuskvault/internal/repo"
	tuskvaultv1 "github.com/tuskvault/tuskvault/proto/gen/tuskvault/v1"
)

type watch = grpc.ServerStreamingClient[tuskvaultv1.WatchResponse]

// follow watches as a viewer.
func (w *world) follow(r *tuskvaultv1.WatchRequest) watch {
	w.t.Helper()
	client := tuskvaultv1.NewEventServiceClient(w.dial(w.operator("viewer-"+repo.NewID().Short(), catalog.RoleViewer).cert))
	s, err := client.Watch(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait() // it has found its place before anything happens
	if r.GetFollow() {
		if first, err := s.Recv(); err == nil && first.GetStart() == nil {
			w.t.Fatalf("first message %v, want where it begins", first)
		}
	}
	return s
}

// word is an event in short.
func word(r *tuskvaultv1.WatchResponse) string {
	if g := r.GetGap(); g != nil {
		return "gap: " + g.GetReason()
	}
	e := r.GetEvent()
	return fmt.Sprintf("%s %s %s", e.GetKind().String()[len("EVENT_KIND_"):], e.GetAgent(), e.GetMessage())
}

// words takes n answers.
func words(t *testing.T, s watch, n int) (all []string) {
	t.Helper()
	for range n {
		r, err := s.Recv()
		if err != nil {
			t.Fatalf("after %v: %v", all, err)
		}
		all = append(all, word(r))
	}
	return all
}

func TestAFollowerSeesAgentsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.follow(&tuskvaultv1.WatchRequest{Follow: true})
		strangers := w.dial(nil)
		if _, err := tryEnroll(t, strangers, w.token(enroll.TokenSpec{}), "db9"); err != nil {
			t.Fatal(err)
		}
		a := w.agent("db1")
		first := w.session(a, hello())
		second := w.session(a, hello()) // replaces the first: the agent neither came nor went
		if err := <-first.ended; err == nil {
			t.Error("the first session ended without a reason")
		}
		if err := second.stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		got := words(t, s, 3)
		admin := tuskvaultv1.NewFleetServiceClient(w.dial(w.operator("admin", catalog.RoleAdmin).cert))
		if _, err := admin.RevokeAgent(t.Context(), &tuskvaultv1.RevokeAgentRequest{Agent: "db1", Reason: "stolen"}); err != nil {
			t.Fatal(err)
		}
		got = append(got, words(t, s, 1)...)
		want := []string{"AGENT_ENROLLED db9 from bufconn", "AGENT_ONLINE db1 from bufconn", "AGENT_OFFLINE db1 it closed its session", "AGENT_REVOKED db1 by operator/admin: stolen"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

func TestWhoComesBackGetsWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		publish := func(from, n int) {
			for i := range n {
				w.events.Publish(event.Event{Kind: event.JobQueued, Message: fmt.Sprint(from + i)})
			}
		}
		publish(0, 3)
		all := w.follow(&tuskvaultv1.WatchRequest{})
		if d := cmp.Diff([]string{"JOB_QUEUED  0", "JOB_QUEUED  1", "JOB_QUEUED  2"}, words(t, all, 3)); d != "" {
			t.Error(d)
		}
		if _, err := all.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("without follow it goes on: %v", err)
		}
		s := w.follow(&tuskvaultv1.WatchRequest{Follow: true})
		publish(3, 1)
		r, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		last := r.GetEvent().GetSequence()
		publish(4, 2)
		back := w.follow(&tuskvaultv1.WatchRequest{Follow: true, After: &last})
		if d := cmp.Diff([]string{"JOB_QUEUED  4", "JOB_QUEUED  5"}, words(t, back, 2)); d != "" {
			t.Error(d)
		}
		publish(6, 150) // more than are kept
		late := w.follow(&tuskvaultv1.WatchRequest{Follow: true, After: &last})
		if d := cmp.Diff([]string{"gap: only the newest 100 events are kept", "JOB_QUEUED  56"}, words(t, late, 2)); d != "" {
			t.Error(d)
		}
	})
}

func TestOnlyWhatWasAskedForIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		prod, test := w.agent("db1"), w.agent("db2")
		for a, env := range map[repo.AgentID]string{prod.id: "prod", test.id: "test"} {
			if err := w.catalog.Update(t.Context(), catalog.Local, func(tx *catalog.Tx) error {
				r, err := tx.Agent(a)
				r.Labels = map[string]string{"env": env}
				return errors.Join(err, tx.PutAgent(r))
			}); err != nil {
				t.Fatal(err)
			}
		}
		s := w.follow(&tuskvaultv1.WatchRequest{Follow: true, Selector: "env=prod", Kinds: []tuskvaultv1.EventKind{tuskvaultv1.EventKind_EVENT_KIND_JOB_FAILED}})
		for _, e := range []event.Event{
			{Kind: event.JobFailed, Agent: test.id, AgentName: "db2"}, {Kind: event.JobRunning, Agent: prod.id, AgentName: "db1"},
			{Kind: event.JobFailed, Agent: repo.NewID(), AgentName: "gone"}, {Kind: event.JobFailed, Agent: prod.id, AgentName: "db1", Message: "this"},
		} {
			w.events.Publish(e)
		}
		if d := cmp.Diff([]string{"JOB_FAILED db1 this"}, words(t, s, 1)); d != "" {
			t.Error(d)
		}
		for _, bad := range []*tuskvaultv1.WatchRequest{
			{Selector: "env="}, {Kinds: []tuskvaultv1.EventKind{0}}, {Kinds: []tuskvaultv1.EventKind{99}}, {Kinds: make([]tuskvaultv1.EventKind, 100)}, {After: new(int64(-1))},
		} {
			_, err := w.follow(bad).Recv()
			if kind := errs.KindOf(err); kind != errs.Invalid && kind != errs.Unsupported && bad.GetSelector() == "" {
				t.Errorf("%v: %v", bad, err)
			}
		}
	})
}

func TestProgressComesToThoseWhoAskForItEveryFewSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ref := job.Ref{Job: repo.NewID(), Fence: repo.Fence{Epoch: 1, Counter: 1}}
		say := func(done int64) {
			w.jobs.mu.Lock()
			defer w.jobs.mu.Unlock()
			w.jobs.progress[ref] = job.Progress{Time: time.Now(), BytesPerSecond: 7, Databases: []job.DatabaseProgress{{Database: "app", BytesDone: done, Tables: []job.TableProgress{{Table: "s.t", Phase: "copying"}}}}}
		}
		say(1)
		quiet := w.follow(&tuskvaultv1.WatchRequest{Follow: true})
		s := w.follow(&tuskvaultv1.WatchRequest{Follow: true, IncludeProgress: true})
		w.events.Publish(event.Event{Kind: event.JobRunning})
		last, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for i := range 20 {
			time.Sleep(time.Second)
			say(int64(i))
		}
		for range 6 {
			r, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			e := r.GetEvent()
			if e.GetKind() != tuskvaultv1.EventKind_EVENT_KIND_JOB_PROGRESS || e.GetJobId() != ref.Job.String() || e.GetProgress().GetBytesPerSecond() != 7 ||
				e.GetProgress().GetDatabases()[0].GetTables()[0].GetTable() != "s.t" || e.GetSequence() != last.GetEvent().GetSequence() {
				t.Fatalf("%v", e)
			}
		}
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("six progress events took %s", took)
		}
		w.events.Publish(event.Event{Kind: event.JobFailed})
		if got := words(t, quiet, 2); got[0] != "JOB_RUNNING  " || got[1] != "JOB_FAILED  " {
			t.Errorf("who did not ask for progress got %v", got)
		}
		if got := words(t, s, 1); got[0] != "JOB_FAILED  " {
			t.Errorf("an unchanged progress was sent again: %v", got)
		}
	})
}

func TestAFollowerThatDoesNotReadIsCutOffAndToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.follow(&tuskvaultv1.WatchRequest{Follow: true})
		for range 2000 { // far more than flow control lets through unread, and than is kept
			w.events.Publish(event.Event{Kind: event.JobFailed, Message: string(make([]byte, 500))})
			synctest.Wait()
		}
		var err error
		n := 0
		for err == nil {
			_, err = s.Recv()
			n++
		}
		wantKind(t, err, errs.Exhausted, "read too slowly")
		t.Logf("cut off after %d events", n)
	})
}
